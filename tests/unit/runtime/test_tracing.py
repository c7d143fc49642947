import asyncio
import json
import subprocess
import sys
from io import StringIO
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import InvalidInputError
from safescale.runtime.log import configure_logging, get_logger
from safescale.runtime.settings import load_settings
from safescale.runtime.telemetry import Telemetry
from safescale.runtime.tracing import (
    NoTracer,
    Place,
    allowed,
    at,
    caller_of,
    client_interceptors,
    here,
    open_tracer,
    place_of,
    sampled_trace_id,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PLACE = Place(TRACE, SPAN, sampled=True)


def test_the_specification_s_example() -> None:
    assert place_of(f"00-{TRACE}-{SPAN}-01") == PLACE
    assert PLACE.traceparent == f"00-{TRACE}-{SPAN}-01"
    assert place_of(f"00-{TRACE}-{SPAN}-00") == Place(TRACE, SPAN, sampled=False)
    # A later version may append fields and flags.
    assert place_of(f"cc-{TRACE}-{SPAN}-09-what-comes-later") == PLACE


@pytest.mark.parametrize("wrong", [
    "", "x", f"00-{TRACE}-{SPAN}", f"00-{TRACE.upper()}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-1",
])  # fmt: skip
def test_what_cannot_be_read_starts_a_new_trace(wrong: str) -> None:
    assert place_of(wrong) is None


@given(st.text(max_size=80))
def test_no_header_is_an_error(text: str) -> None:
    place = place_of(text)
    assert place is None or place_of(place.traceparent) == place


def test_work_belongs_to_a_place_for_a_while() -> None:
    with at(PLACE):
        assert here() == PLACE
        with at(None):
            assert sampled_trace_id() == ""
        assert sampled_trace_id() == TRACE
        with at(Place(TRACE, SPAN, sampled=False)):
            assert sampled_trace_id() == ""
    assert here() is None


async def test_a_generator_within_a_place_may_be_closed_elsewhere() -> None:
    async def pieces():
        with at(PLACE):
            yield here()

    reader = pieces()
    assert await asyncio.create_task(anext(reader)) == PLACE
    await asyncio.create_task(reader.aclose())
    assert here() is None


def test_texts_are_no_attributes() -> None:
    fields = {"prompt": "Is it safe?", "text": "an answer", "passage": "...", "query": "q", "model": "m" * 500}
    assert allowed({**fields, "attempt": 2, "condition": None}) == {"model": "m" * 200, "attempt": 2}


def test_who_calls() -> None:
    def context(*metadata):
        return SimpleNamespace(invocation_metadata=lambda: metadata or None)

    assert caller_of(context()) is None
    assert caller_of(context(("user-agent", "x"), ("traceparent", PLACE.traceparent))) == PLACE


def test_a_line_of_the_log_names_its_trace() -> None:
    stream = StringIO()
    configure_logging("INFO", stream)
    get_logger("test").info("outside")
    with at(PLACE):
        get_logger("test").info("inside")
    outside, inside = map(json.loads, stream.getvalue().splitlines())
    assert "trace_id" not in outside
    assert inside["trace_id"] == TRACE


def test_an_observation_within_a_trace_has_an_exemplar_and_openmetrics_shows_it() -> None:
    telemetry = Telemetry()
    labels = {"model": "m", "condition": "c"}
    telemetry.observe("safescale_time_to_first_token_seconds", 0.3, labels)
    with at(PLACE):
        telemetry.observe("safescale_time_to_first_token_seconds", 0.7, labels)
    with at(Place(TRACE, SPAN, sampled=False)):
        telemetry.observe("safescale_time_to_first_token_seconds", 40.0, labels)
    body, content_type = telemetry.expose("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    found = [line for line in body.decode().splitlines() if "trace_id" in line]
    assert len(found) == 1
    assert 'le="1.0"' in found[0]
    assert f'# {{trace_id="{TRACE}"}} 0.7' in found[0]
    body, content_type = telemetry.expose("")
    assert content_type.startswith("text/plain")
    assert b"trace_id" not in body


def test_without_an_endpoint_nothing_is_traced_and_opentelemetry_not_imported() -> None:
    tracer = open_tracer("", 1.0, "all")
    assert isinstance(tracer, NoTracer)
    assert not client_interceptors(tracer)
    with tracer.span("work", {}) as place, tracer.serving("/method", PLACE):
        assert place is None
        assert here() is None
    code = "import sys, safescale.app.host; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "value"), [
    ("OTLP_ENDPOINT", "collector:4317"), ("OTLP_ENDPOINT", "http://collector"), ("TRACE_RATIO", "1.5"),
    ("TRACE_RATIO", "all"),
])  # fmt: skip
def test_wrong_settings_are_named(monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SAFESCALE_{name}", value)
    with pytest.raises(InvalidInputError, match=f"SAFESCALE_{name} = '{value}'"):
        load_settings()
