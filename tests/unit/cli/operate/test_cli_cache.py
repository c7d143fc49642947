from contextlib import asynccontextmanager

import pytest
from typer.testing import CliRunner

from safescale.cli.operate import cache
from safescale.cli.operate.cache import BYTES, SECONDS, _number, shown_bytes
from safescale.core.errors import InvalidInputError
from safescale.rpc.inference.v1 import inference_pb2 as pb


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("30d", SECONDS, 2_592_000), ("1.5h", SECONDS, 5400), ("90 m", SECONDS, 5400), ("7s", SECONDS, 7),
        ("0", BYTES, 0), ("1024", BYTES, 1024), ("2GiB", BYTES, 2 * 1024**3), ("1.5 KiB", BYTES, 1536),
    ],
)  # fmt: skip
def test_numbers_have_units(text, units, value) -> None:
    assert _number("--option", text, units) == value


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("30", SECONDS), ("0d", SECONDS), ("-1d", SECONDS), ("d", SECONDS), ("1y", SECONDS), ("1e9d", SECONDS),
        ("2GB", BYTES), ("-1", BYTES), ("nan", BYTES), ("", BYTES), ("1,000", BYTES),
    ],
)  # fmt: skip
def test_what_is_no_number_with_a_unit_is_refused_by_name(text, units) -> None:
    with pytest.raises(InvalidInputError, match=r"--option is .*; expected a number with one of the units"):
        _number("--option", text, units)


@pytest.mark.parametrize(("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (4 * 1024**3, "4.0 GiB")])
def test_bytes_are_shown_in_the_unit_that_fits(size, shown) -> None:
    assert shown_bytes(size) == shown


class Inference:
    """A service that holds two models and keeps what it was asked."""

    def __init__(self, *models: pb.CachedModel, max_bytes: int = 4096) -> None:
        self.told = pb.GetCacheResponse(models=models, max_bytes=max_bytes)
        self.asked: list[pb.TrimCacheRequest] = []

    async def GetCache(self, request):
        return self.told

    async def TrimCache(self, request):
        self.asked.append(request)
        return pb.TrimCacheResponse(removed_count=1234, removed_bytes=2048, bytes=1024)


@pytest.fixture
def called(monkeypatch):
    def call(inference: Inference, *arguments: str):
        @asynccontextmanager
        async def session(settings):
            yield type("Client", (), {"inference": inference})

        monkeypatch.setattr(cache, "session", session)
        return CliRunner().invoke(cache.app, list(arguments))

    return call


def test_what_the_cache_holds_is_shown_by_model(called) -> None:
    models = [pb.CachedModel(entry_count=2, bytes=10), pb.CachedModel(model="m", entry_count=1200, bytes=2048)]
    shown = called(Inference(*models)).output
    assert "m " in shown
    assert "1,200" in shown
    assert "(of version 0.1.0)" in shown
    assert "holds 2.0 KiB of 4.0 KiB that it may hold (SAFESCALE_CACHE_MAX_BYTES)" in shown
    assert called(Inference(max_bytes=0)).output.strip().startswith("The generation cache holds 0 B without a bound")


def test_trim_hands_on_what_is_to_go_and_tells_what_went(called) -> None:
    inference = Inference()
    done = called(inference, "trim", "--model", "m", "--older-than", "2h", "--max-bytes", "1KiB")
    assert "Removed 1,234 answers (2.0 KiB); 1.0 KiB are left." in done.output
    assert inference.asked == [pb.TrimCacheRequest(model="m", older_than_s=7200, max_bytes=1024)]
    called(inference, "trim", "--max-bytes", "0")
    assert inference.asked[-1].HasField("max_bytes")


def test_trim_without_an_option_asks_nobody(called) -> None:
    inference = Inference()
    done = called(inference, "trim")
    assert isinstance(done.exception, InvalidInputError)
    assert inference.asked == []
