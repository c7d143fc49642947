"""The files of a multipart/form-data body."""

from dataclasses import dataclass
from email import policy
from email.errors import MessageError
from email.parser import BytesParser

from safescale.gateway.problem import HttpError

MAX_PARTS = 20


@dataclass(frozen=True, slots=True)
class FormFile:
    """One part: the field's name, the file's name or the field's where it has none, and the content."""

    field: str
    name: str
    data: bytes


def form_files(content_type: str, body: bytes) -> list[FormFile]:
    """The parts of a body, in their order.

    Raises:
        HttpError: 400, it is no multipart/form-data, or has too many parts.

    """
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    try:
        message = BytesParser(policy=policy.HTTP).parsebytes(head + body)
        parts = list(message.iter_parts()) if message.is_multipart() else []
        found = [_file(part) for part in parts]
    except (MessageError, ValueError, LookupError, AttributeError, TypeError, IndexError) as error:
        # What the parser raises on arbitrary bytes is not told by its documentation.
        raise HttpError(400, "INVALID_INPUT", "the body cannot be read as multipart/form-data") from error
    if not found:
        raise HttpError(400, "INVALID_INPUT", "the multipart/form-data body has no part; check its boundary")
    if len(found) > MAX_PARTS:
        raise HttpError(400, "INVALID_INPUT", f"the body has {len(found)} parts; expected at most {MAX_PARTS}")
    return found


def _file(part: object) -> FormFile:
    field = part.get_param("name", header="content-disposition")  # type: ignore[attr-defined]
    name = part.get_filename()  # type: ignore[attr-defined]
    data = part.get_payload(decode=True)  # type: ignore[attr-defined]
    if not isinstance(data, bytes):
        raise TypeError("a part that has parts")
    field = field if isinstance(field, str) else ""
    return FormFile(field, name or field or "file", data)
