import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from safescale.core.errors import BackendError, BackendUnavailableError, StorageError
from safescale.inference.backends.llama.weights import digest_of, weights_of

PARTS = [b"GGUF" + bytes(5000), b"tail" * 1000]
WHOLE = hashlib.sha256(b"".join(PARTS)).hexdigest()


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two packages with a part each; importing one of them fails, as it must never happen."""
    for index, content in enumerate(PARTS):
        folder = tmp_path / "site" / f"own_weights_part{index}"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (folder / "part.bin").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    files = [{"package": f"own_weights_part{index}", "file": "part.bin"} for index in range(2)]
    return {"files": files, "distribution": "own-weights"}


def test_parts_are_joined_once_and_checked(packages, tmp_path, row_of) -> None:
    weights = weights_of(row_of(revision=WHOLE, embedded=packages), tmp_path / "cache")
    assert weights.missing() == ""
    path = weights.file()
    assert digest_of([path]) == WHOLE == weights.compute_digest()
    stamp = path.stat().st_mtime_ns
    assert weights.file() == path
    assert path.stat().st_mtime_ns == stamp
    assert "own_weights_part0" not in sys.modules


def test_many_at_once_join_to_one_whole_file(packages, tmp_path, row_of) -> None:
    row = row_of(revision=WHOLE, embedded=packages)
    with ThreadPoolExecutor(8) as threads:
        paths = list(threads.map(lambda _: weights_of(row, tmp_path / "cache").file(), range(8)))
    assert len(set(paths)) == 1
    assert digest_of([paths[0]]) == WHOLE
    assert sorted(path.suffix for path in paths[0].parent.iterdir()) == [".gguf", ".lock"]


def test_a_damaged_joined_file_is_made_anew(packages, tmp_path, row_of) -> None:
    weights = weights_of(row_of(revision=WHOLE, embedded=packages), tmp_path / "cache")
    weights.file().write_bytes(b"GGUF broken")
    assert digest_of([weights.file()]) == WHOLE


def test_parts_that_join_to_something_else_are_refused(packages, tmp_path, row_of) -> None:
    weights = weights_of(row_of(revision="0" * 64, embedded=packages), tmp_path / "cache")
    with pytest.raises(BackendError, match="expected 0000"):
        weights.file()
    assert not list((tmp_path / "cache" / "weights").glob("*.gguf*"))


def test_a_missing_package_is_named_as_it_is_installed(tmp_path, row_of) -> None:
    endpoint = {"files": [{"package": "no_such_weights", "file": "x"}], "distribution": "no-such-weights"}
    weights = weights_of(row_of(embedded=endpoint), tmp_path)
    assert "package no-such-weights is not installed" in weights.missing()
    with pytest.raises(BackendUnavailableError, match="no-such-weights"):
        weights.file()
    with pytest.raises(BackendUnavailableError):
        weights.compute_digest()


def test_a_package_without_the_file_is_told(packages, tmp_path, row_of) -> None:
    packages["files"][1]["file"] = "absent.bin"
    assert "has no file absent.bin" in weights_of(row_of(embedded=packages), tmp_path).missing()


def test_a_path_is_checked_for_what_it_is(tmp_path, row_of) -> None:
    good, text = tmp_path / "good.gguf", tmp_path / "text.gguf"
    good.write_bytes(PARTS[0])
    text.write_text("not weights")
    digest = hashlib.sha256(PARTS[0]).hexdigest()
    assert weights_of(row_of(revision=digest, embedded={"path": str(good)}), tmp_path).file() == good
    assert weights_of(row_of(revision=None, embedded={"path": str(good)}), tmp_path).compute_digest() == digest
    assert "is not a GGUF file" in weights_of(row_of(embedded={"path": str(text)}), tmp_path).missing()
    assert "cannot be read" in weights_of(row_of(embedded={"path": str(tmp_path / "no")}), tmp_path).missing()
    with pytest.raises(BackendError, match="the catalog states"):
        weights_of(row_of(revision="0" * 64, embedded={"path": str(good)}), tmp_path).file()


def test_a_cache_directory_that_cannot_be_written_is_a_storage_error(packages, tmp_path, row_of) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(StorageError, match="cannot be joined"):
        weights_of(row_of(revision=WHOLE, embedded=packages), tmp_path / "cache").file()
