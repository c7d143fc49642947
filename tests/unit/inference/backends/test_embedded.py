import pytest

from safescale.core.errors import ModelChangedError
from safescale.inference.backends import embedded
from safescale.inference.backends.embedded import EmbeddedBackend, EmbeddedOptions
from safescale.inference.backends.pool import Gate


@pytest.fixture
def backend(row_of, tmp_path):
    weights = tmp_path / "m.gguf"
    weights.write_bytes(b"GGUF one")
    row = row_of(revision=None, embedded={"path": str(weights)})
    return EmbeddedBackend(row, EmbeddedOptions(1, Gate(1), tmp_path))


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
