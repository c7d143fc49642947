"""Bytes of a file into records that know their lines; every defect is collected, not only the first.

Used for benchmarks and corpora. JSON is read strictly: no NaN, no repeated keys, no lone surrogates.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from safescale.core.errors import Defect
from safescale.core.inputs.text import visible_line

LISTED_AT_MOST = 1000
"""Defects, and warnings, that are listed: what comes after so many is not read."""

BYTES_NAMED_AT_MOST = 100
"""Lines with bytes that are no UTF-8 that are named; a file in another encoding can have millions."""

_SHOWN_CHARACTERS = 60
_REPEATED_AT_MOST = 20
_ANSI = "UTF-8; the file looks like one of Windows (ANSI): save it again as UTF-8"
_SPACE = re.compile(r"[ \t\r\n]*")
# Euro, quotation marks, dashes, bullet, ellipsis, no-break space, degree, plus-minus, superscripts, micro, middle dot.
_ANSI_MARKS = frozenset(b"\x80\x82\x84\x85\x91\x92\x93\x94\x95\x96\x97\xa0\xb0\xb1\xb2\xb3\xb5\xb7")
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class Source:
    """The content of one file, and the name to call it by in defects."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object or CSV row, with the text it was read from and the line (from 1) where that text begins."""

    file: str
    line: int
    data: dict[str, Any]
    text: str = ""

    def line_of(self, path: tuple[str, ...]) -> int:
        """Return the line of the key at the end of `path`, or the record's first line where it is not found."""
        position = 0
        for key in path:
            found = self.text.find(json.dumps(key, ensure_ascii=False), position)
            if found < 0:
                break
            position = found
        return self.line + self.text.count("\n", 0, position)


@dataclass(slots=True)
class DefectLog:
    """Defects (the input cannot be used) and warnings (it can, but a person should look), as they were met."""

    defects: list[Defect] = field(default_factory=list)
    warnings: list[Defect] = field(default_factory=list)
    unlisted_warnings: int = 0
    ended: set[str] = field(default_factory=set)

    @property
    def full(self) -> bool:
        """Whether there are as many defects as are listed."""
        return len(self.defects) >= LISTED_AT_MOST

    def warn(self, warning: Defect) -> None:
        """Add a warning; beyond what is listed it is only counted."""
        if len(self.warnings) < LISTED_AT_MOST:
            self.warnings.append(warning)
        else:
            self.unlisted_warnings += 1

    def end_early(self, file: str, line: int) -> None:
        """Say, once for each file, that the rest of it was not read, since there are enough defects."""
        if file in self.ended:
            return
        self.ended.add(file)
        expected = f"fewer than {LISTED_AT_MOST:,} defects; mend these first"
        self.defects.append(Defect(file, line, None, None, "the rest was not read", expected))


class _KeyTwiceError(ValueError):
    """A JSON object that has one key twice; Python's reader would silently keep the second."""


def shown(value: object) -> str:
    """Return a value as a defect shows it: its JSON, cut to 60 characters, what cannot be seen escaped."""
    if isinstance(value, str):
        value = value[: _SHOWN_CHARACTERS + 1]
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    except RecursionError:
        text = "values nested too deep"
    text = visible_line(text[: _SHOWN_CHARACTERS + 1])
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def decode(source: Source, findings: DefectLog) -> str:
    """Return the text of a file; each line that is not UTF-8 is a defect with its byte offset. A UTF-8 mark is dropped.

    At most 100 such lines are named; the last defect counts the others.
    """
    encoding = _BOMS.get(source.data[:2])
    if encoding is not None:
        findings.defects.append(Defect(source.name, 1, None, "encoding", encoding, "UTF-8"))
        return ""
    data = source.data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _decode_lines(source, data, findings)


def _decode_lines(source: Source, data: bytes, findings: DefectLog) -> str:
    offset, lines, wrong = len(source.data) - len(data), [], 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            wrong += 1
            if wrong <= BYTES_NAMED_AT_MOST:
                place = f"byte 0x{line[error.start]:02x} at offset {offset + error.start}"
                expected = _ANSI if _is_ansi(line, error.start) else "UTF-8"
                findings.defects.append(Defect(source.name, number, None, "encoding", place, expected))
            lines.append(line.decode(errors="replace"))
        offset += len(line) + 1
    if wrong > BYTES_NAMED_AT_MOST:
        found = f"{wrong - BYTES_NAMED_AT_MOST:,} more lines with such bytes"
        findings.defects.append(Defect(source.name, None, None, "encoding", found, "UTF-8"))
    return "\n".join(lines)


def _is_ansi(line: bytes, position: int) -> bool:
    """Whether the byte is a letter or a mark of Windows' Western code page rather than a broken UTF-8 sequence."""
    if 0x80 <= line[position] < 0xC0:
        return line[position] in _ANSI_MARKS
    following = line[position + 1 : position + 2]
    return not following or not 0x80 <= following[0] < 0xC0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        counted = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counted.items() if count > 1)
        raise _KeyTwiceError(f"the key {shown(twice)} twice in one object")
    return result


def _constant(name: str) -> Any:
    raise ValueError(f"the number {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def strict_json(text: str) -> Any:
    """Return the value of a JSON text, read strictly: no key twice, no NaN.

    Raises ValueError that says what is wrong, with its column.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("objects nested too deep") from error


def _decode_json(source_name: str, text: str, start: int, findings: DefectLog) -> tuple[Any, int] | None:
    """Return the JSON value at `start` and the position after it, or None and a defect with line and column."""
    try:
        value, end = _DECODER.raw_decode(text, start)
        # Only an escape can bring in half a surrogate pair; most records are spared the second pass.
        if text.find("\\u", start, end) >= 0:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        found = f"{error.msg} at column {error.colno}"
        findings.defects.append(Defect(source_name, error.lineno, None, None, found, "valid JSON"))
        return None
    except UnicodeEncodeError:
        found = "half of a surrogate pair in a text"
    except RecursionError:
        found = "objects nested too deep"
    except ValueError as error:
        found = str(error)
    else:
        return value, end
    line = text.count("\n", 0, start) + 1
    findings.defects.append(Defect(source_name, line, None, None, found, "valid JSON"))
    return None


def jsonl_records(source_name: str, text: str, findings: DefectLog, first_line: int = 1) -> Iterator[Record]:
    """One record for each line that holds a JSON object; blank lines are skipped, every other line is a defect.

    `first_line` is the number of the text's first line, where the text is a part of a file.
    """
    for number, line in enumerate(text.split("\n"), start=first_line):
        stripped = line.strip()
        if not stripped:
            continue
        if findings.full:
            findings.end_early(source_name, number)
            return
        local = DefectLog()
        decoded = _decode_json(source_name, line, len(line) - len(line.lstrip()), local)
        findings.defects.extend(
            Defect(each.file, number, each.item, each.field, each.value, each.expected) for each in local.defects
        )
        if decoded is None:
            continue
        value, end = decoded
        if line[end:].strip():
            found = f"{shown(line[end:].strip())} after the object at column {end + 1}"
            findings.defects.append(Defect(source_name, number, None, None, found, "one JSON object per line"))
        elif not isinstance(value, dict):
            findings.defects.append(Defect(source_name, number, None, None, shown(value), "one JSON object per line"))
        else:
            yield Record(source_name, number, value, line)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def array_records(source_name: str, text: str, findings: DefectLog) -> Iterator[Record]:
    """Yield the objects of a JSON array; a syntax error ends the reading, since what follows is ambiguous."""

    def broken(position: int, expected: str) -> None:
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        found = f"{shown(text[position : position + 1])} at column {column}" if text[position:] else "end of file"
        findings.defects.append(Defect(source_name, line, None, None, found, expected))

    position = _skip_space(text, _skip_space(text, 0) + 1)
    line, counted = 1, 0
    more = text[position : position + 1] != "]"
    while more:
        if findings.full:
            findings.end_early(source_name, line)
            return
        decoded = _decode_json(source_name, text, position, findings)
        if decoded is None:
            return
        value, end = decoded
        line, counted = line + text.count("\n", counted, position), position
        if isinstance(value, dict):
            yield Record(source_name, line, value, text[position:end])
        else:
            findings.defects.append(Defect(source_name, line, None, None, shown(value), "a JSON object"))
        position = _skip_space(text, end)
        more = text[position : position + 1] == ","
        if more:
            position = _skip_space(text, position + 1)
    if text[position : position + 1] != "]":
        broken(position, "',' or ']' in the JSON array")
    elif text[position + 1 :].strip():
        broken(_skip_space(text, position + 1), "nothing after the JSON array")


def csv_records(source_name: str, text: str, findings: DefectLog) -> Iterator[Record]:
    """One record per row of a CSV file with a header; separator is the comma, semicolon or tab of the header."""
    header_line = text.split("\n", 1)[0]
    separator = max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] = []
    empty: list[int] = []
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            _warn_of_empty_rows(source_name, empty, findings)
            return
        except csv.Error as error:
            found, expected = str(error), "valid CSV"
            if "field limit" in found:
                found = f"a cell of more than {csv.field_size_limit():,} characters"
                expected = "shorter cells; JSONL takes longer texts"
            findings.defects.append(Defect(source_name, line, None, None, found, expected))
            return
        start, line = line, reader.line_num + 1
        if findings.full:
            findings.end_early(source_name, start)
            return
        if not header:
            header = [name.strip() for name in row]
            repeated = sorted(name for name, count in Counter(header).items() if count > 1)
            for name in repeated[:_REPEATED_AT_MOST]:
                findings.defects.append(Defect(source_name, start, None, "header", shown(name), "each column once"))
        elif not any(cell.strip() for cell in row):
            empty.append(start)
        elif len(row) != len(header):
            found, expected = f"{len(row)} columns", f"{len(header)} columns as in the header"
            findings.defects.append(Defect(source_name, start, row[0] or None, None, found, expected))
        else:
            yield Record(source_name, start, dict(zip(header, row, strict=True)))


def _warn_of_empty_rows(source_name: str, lines: list[int], findings: DefectLog) -> None:
    """Say which rows of empty cells were skipped, as spreadsheets write them below a table."""
    if lines:
        more = f" (and {len(lines) - 1:,} more)" if len(lines) > 1 else ""
        found, expected = f"a row of empty cells{more}", "a question in each row; it is skipped"
        findings.warn(Defect(source_name, lines[0], None, None, found, expected))


def read_records(source: Source, findings: DefectLog) -> tuple[str, list[Record]]:
    """Return the records of a file and the kind of file it was by its content: "json", "jsonl" or "csv"."""
    before = len(findings.defects)
    text = decode(source, findings)
    first = text.strip()[:1]
    if first == "[":
        kind, records = "json", list(array_records(source.name, text, findings))
    elif first == "{":
        kind, records = "jsonl", _jsonl_or_one_defect(source.name, text, findings)
    elif "question_id" in text.split("\n", 1)[0]:
        kind, records = "csv", list(csv_records(source.name, text, findings))
    else:
        kind, records = "unknown", []
        if first:
            found = shown(text.strip().split("\n", 1)[0])
            expected = "JSONL, a JSON array, or CSV with a column question_id"
            findings.defects.append(Defect(source.name, 1, None, None, found, expected))
    if not records and len(findings.defects) == before:
        findings.defects.append(Defect(source.name, None, None, None, "no records", "at least one record"))
    return kind, records


def _jsonl_or_one_defect(source_name: str, text: str, findings: DefectLog) -> list[Record]:
    """Return the records of JSONL text; an object spread over several lines is one defect, not one a line."""
    decoded = _decode_json(source_name, text, _skip_space(text, 0), DefectLog())
    if decoded is not None and "\n" in text[: decoded[1]].strip():
        found = "one JSON object over several lines"
        findings.defects.append(Defect(source_name, 1, None, None, found, "one JSON object per line"))
        return []
    return list(jsonl_records(source_name, text, findings))
