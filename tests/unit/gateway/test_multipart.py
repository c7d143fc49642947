import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.gateway.multipart import FormFile, form_files
from safescale.gateway.problem import HttpError

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
