import threading

import pytest

from safescale.core.errors import ModelChangedError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.llama import backend as embedded
from safescale.inference.backends.llama.backend import EmbeddedBackend, EmbeddedOptions
from safescale.inference.backends.llama.pool import InstanceLimiter
from safescale.inference.backends.llama.stream import Collected
from safescale.inference.backends.port import Output, Sampling

GREEDY, DRAWN = Sampling(0.0, 10), Sampling(0.7, 10, 3, 20)
OUTPUT = Output("B", "", "stop", 1)


@pytest.fixture
def backend(row_of, tmp_path):
    weights = tmp_path / "m.gguf"
    weights.write_bytes(b"GGUF one")
    row = row_of(revision=None, embedded={"path": str(weights)})
    return EmbeddedBackend(row, EmbeddedOptions(1, InstanceLimiter(1), tmp_path))


async def test_weights_that_were_replaced_since_their_revision_was_told_are_not_loaded_under_it(
    backend, tmp_path, monkeypatch
) -> None:
    loaded = []
    monkeypatch.setattr(embedded, "LlamaServer", lambda config: loaded.append(config.path.read_bytes()))
    monkeypatch.setattr(backend, "unavailable_reason", lambda: "")
    first = await backend.revision()
    replacement = tmp_path / "new.gguf"
    replacement.write_bytes(b"GGUF two")
    replacement.replace(tmp_path / "m.gguf")
    with pytest.raises(ModelChangedError, match="replaced after their revision was told"):
        backend._open()
    assert loaded == []
    assert await backend.revision() != first
    backend._open()
    assert loaded == [b"GGUF two"]


def test_a_library_that_is_installed_after_the_start_is_in_the_fingerprint(backend, monkeypatch) -> None:
    absent = backend.capabilities.fingerprint
    monkeypatch.setattr(backend, "_version", "")
    monkeypatch.setattr(embedded, "_version", lambda: "")
    assert "absent" in backend.capabilities.fingerprint
    monkeypatch.setattr(embedded, "_version", lambda: "9.9")
    assert "xllamacpp 9.9" in backend.capabilities.fingerprint
    assert backend.capabilities.fingerprint != absent


class OneSlot:
    """A server that answers at once."""

    def prime(self, messages, stop) -> Collected:
        return Collected(OUTPUT, 7, 0.5, 0.5)

    def text(self, messages, sampling, *, cold, stop) -> Collected:
        return Collected(OUTPUT, 7, 0.1, 0.05)


@pytest.mark.parametrize(
    ("samplings", "calls"),
    [
        ([GREEDY, DRAWN], [1, 0]),
        ([DRAWN, GREEDY], [0, 1]),
        ([DRAWN], [1]),
        ([DRAWN, DRAWN], [1, 0]),
        ([GREEDY], [1]),
    ],
)
def test_the_prompt_of_a_call_is_evaluated_once(samplings, calls) -> None:
    items = embedded._generate(OneSlot(), Messages("s", "u"), samplings, threading.Event())
    assert [generation.prompt_calls for generation in items] == calls
