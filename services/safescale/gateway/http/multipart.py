"""The files of a multipart/form-data body."""

from dataclasses import dataclass
from email import policy
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesHeaderParser

from safescale.gateway.http.problem import HttpError

MAX_PARTS = 20
MAX_HEAD_BYTES = 16 * 1024
"""Bytes of the headers of a part."""


@dataclass(frozen=True, slots=True)
class FormFile:
    """One part: the field's name, the file's name or the field's where it has none, and the content."""

    field: str
    name: str
    data: bytes


def form_files(content_type: str, body: bytes) -> list[FormFile]:
    """The parts of a body, in their order.

    The body is cut at its boundary, and headers alone are parsed: a parser of mail would make an object of every part
    of every part, of which a body of many megabytes can hold a million.

    Raises:
        HttpError: 400, it is no multipart/form-data, or has too many parts.

    """
    boundary = _head(b"Content-Type: " + content_type.encode("latin-1", "replace")).get_boundary("")
    delimiter = b"\r\n--" + str(boundary).encode("latin-1", "replace")
    _, *sections = (b"\r\n" + body).split(delimiter, MAX_PARTS + 2) if boundary else [b""]
    parts = [section for section in sections if not section.startswith(b"--")]
    if not parts:
        raise HttpError(400, "INVALID_INPUT", "the multipart/form-data body has no part; check its boundary")
    if len(parts) > MAX_PARTS:
        raise HttpError(400, "INVALID_INPUT", f"the body has more than {MAX_PARTS} parts; expected at most {MAX_PARTS}")
    return [_file(part) for part in parts]


def _head(lines: bytes) -> EmailMessage:
    try:
        return BytesHeaderParser(policy=policy.HTTP).parsebytes(lines + b"\r\n\r\n")
    except (MessageError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # What the parser raises on arbitrary bytes is not told by its documentation.
        raise _unreadable() from error


def _file(part: bytes) -> FormFile:
    # What stands behind the boundary on its line is blanks alone.
    head, found, data = part.partition(b"\r\n\r\n")
    blanks, end, lines = head.partition(b"\r\n")
    if not found or not end or blanks.strip(b" \t") or len(lines) > MAX_HEAD_BYTES:
        raise _unreadable()
    message = _head(lines)
    try:
        field, name = message.get_param("name", header="content-disposition"), message.get_filename()
        nested = message.get_content_maintype() == "multipart"
    except (MessageError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise _unreadable() from error
    if nested:
        raise _unreadable()
    field = field if isinstance(field, str) else ""
    return FormFile(field, name or field or "file", data)


def _unreadable() -> HttpError:
    return HttpError(400, "INVALID_INPUT", "the body cannot be read as multipart/form-data")
