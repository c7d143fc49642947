import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.gateway.http import multipart
from safescale.gateway.http.multipart import FormFile, form_files
from safescale.gateway.http.problem import HttpError

TYPE = "multipart/form-data; boundary=XyZ"


def body_of(*parts: tuple[str, str, bytes]) -> bytes:
    found = b""
    for field, name, data in parts:
        named = f'; filename="{name}"' if name else ""
        found += f'--XyZ\r\nContent-Disposition: form-data; name="{field}"{named}\r\n\r\n'.encode() + data + b"\r\n"
    return found + b"--XyZ--\r\n"


@given(st.binary(max_size=60).filter(lambda data: b"--XyZ" not in data), st.binary(max_size=20))
def test_files_come_out_as_they_went_in(first: bytes, second: bytes) -> None:
    found = form_files(TYPE, body_of(("questions", "q.jsonl", first), ("labels", "", second)))
    assert found == [FormFile("questions", "q.jsonl", first), FormFile("labels", "labels", second)]


@given(st.binary(max_size=200), st.sampled_from([TYPE, "multipart/form-data", "multipart/form-data; boundary=", "x"]))
def test_arbitrary_bytes_are_files_or_a_clear_refusal(body: bytes, kind: str) -> None:
    with contextlib.suppress(HttpError):
        assert all(isinstance(part.data, bytes) for part in form_files(kind, body))


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(HttpError, match="at most 20"):
        form_files(TYPE, body_of(*[("questions", "", b"x")] * 21))


def test_parts_within_a_part_are_refused() -> None:
    inner = b"--XyZ\r\nContent-Type: multipart/mixed; boundary=I\r\n\r\n--I\r\n\r\nx\r\n--I--\r\n\r\n--XyZ--\r\n"
    with pytest.raises(HttpError, match="cannot be read"):
        form_files(TYPE, inner)


def test_of_a_million_parts_no_more_are_kept_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(multipart, "FormFile", lambda field, *_: kept.append(field))
    with pytest.raises(HttpError, match="at most 20"):
        form_files(TYPE, b"--XyZ\r\n\r\n\r\n" * 1_000_000 + b"--XyZ--\r\n")
    assert len(kept) == 20
    with pytest.raises(HttpError, match="cannot be read"):
        form_files(TYPE, b"--XyZ\r\n" * 1_000_000 + b"--XyZ--\r\n")


def test_a_body_without_its_last_boundary_is_refused() -> None:
    whole = body_of(("questions", "q.jsonl", b"one line\n"))
    assert len(form_files(TYPE, whole)) == 1
    with pytest.raises(HttpError, match="cannot be read"):
        form_files(TYPE, whole.removesuffix(b"--XyZ--\r\n"))


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=B"]
)
def test_a_body_that_its_boundary_does_not_divide_is_refused(kind: str) -> None:
    with pytest.raises(HttpError, match="has no part; check its boundary"):
        form_files(kind, body_of(("questions", "q.jsonl", b"x")))


def test_a_body_of_no_parts_is_refused() -> None:
    with pytest.raises(HttpError, match="has no part"):
        form_files(TYPE, body_of())


def test_names_of_files_are_read_as_utf_8() -> None:
    (found,) = form_files(TYPE, body_of(("questions", "préface.jsonl", b"x")))
    assert found.name == "préface.jsonl"


def test_what_is_wrong_with_a_body_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(HttpError, match="cannot be read"):
        form_files(TYPE, b"--XyZ\r\nsecret()\r\n\r\n--XyZ--\r\n")
    assert not caplog.records


def test_parts_nested_without_end_are_refused() -> None:
    nested = b"".join(
        f"--B{level}\r\nContent-Type: multipart/mixed; boundary=B{level + 1}\r\n\r\n".encode() for level in range(5000)
    )
    with pytest.raises(HttpError, match="cannot be read"):
        form_files("multipart/form-data; boundary=B0", nested)


@pytest.mark.parametrize("head", [b"x" * 20_000, b"Content-Disposition: form-data; name=\xff" + b";" * 10_000])
def test_a_head_that_is_none_is_refused_or_has_no_name(head: bytes) -> None:
    with contextlib.suppress(HttpError):
        (found,) = form_files(TYPE, b"--XyZ\r\n" + head + b"\r\n\r\ndata\r\n--XyZ--\r\n")
        assert found.data == b"data"


def test_a_part_without_headers_has_no_name() -> None:
    assert form_files(TYPE, b"--XyZ\r\n\r\ndata\r\n--XyZ--\r\n") == [FormFile("", "file", b"data")]
