"""The files of a multipart/form-data body."""

import logging
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from safescale.gateway.http.problem import HttpError

MAX_PARTS = 20


@dataclass(frozen=True, slots=True)
class FormFile:
    """One part: the field's name, the file's name or the field's where it has none, and the content."""

    field: str
    name: str
    data: bytes


def form_files(content_type: str, body: bytes) -> list[FormFile]:
    """Return the parts of a body, in their order.

    The parser is used without Starlette's forms, which would parse in the event loop, write files to a disk that a
    read-only container lacks, and decode the content of a part that has no file name.

    Raises:
        HttpError: 400, it is no multipart/form-data, ends early, or has too many parts.

    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary or b"--" + boundary not in body:
        raise _empty()
    parts = _Parts()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.add_header_name,
                "on_header_value": parts.add_header_value,
                "on_header_end": parts.end_header,
                "on_part_data": parts.add_data,
                "on_part_end": parts.end,
                "on_end": parts.finish,
            },
        )
        parser.logger = _SILENT
        parser.write(body)
    except FormParserError as error:
        raise _unreadable() from error
    if not parts.finished:
        raise _unreadable()
    if not parts.files:
        raise _empty()
    return parts.files


_SILENT = logging.Logger("multipart", logging.CRITICAL + 1)
"""The parser logs what is wrong with a body, which the response says already."""


class _Parts:
    """Collects parts from the events of the parser."""

    def __init__(self) -> None:
        self.files: list[FormFile] = []
        self.finished = False
        self._begun = 0
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._data: list[bytes] = []

    def begin(self) -> None:
        self._begun += 1
        if self._begun > MAX_PARTS:
            detail = f"the body has more than {MAX_PARTS} parts; expected at most {MAX_PARTS}"
            raise HttpError(400, "INVALID_INPUT", detail)
        self._headers, self._data = {}, []

    def add_header_name(self, body: bytes, begin: int, end: int) -> None:
        self._name += body[begin:end]

    def add_header_value(self, body: bytes, begin: int, end: int) -> None:
        self._value += body[begin:end]

    def end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def add_data(self, body: bytes, begin: int, end: int) -> None:
        self._data.append(body[begin:end])

    def end(self) -> None:
        kind, _ = parse_options_header(self._headers.get(b"content-type", b""))
        if kind.startswith(b"multipart/"):
            raise _unreadable()
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field, name = (options.get(key, b"").decode("utf-8", "replace") for key in (b"name", b"filename"))
        self.files.append(FormFile(field, name or field or "file", b"".join(self._data)))

    def finish(self) -> None:
        self.finished = True


def _empty() -> HttpError:
    return HttpError(400, "INVALID_INPUT", "the multipart/form-data body has no part; check its boundary")


def _unreadable() -> HttpError:
    return HttpError(400, "INVALID_INPUT", "the body cannot be read as multipart/form-data")
