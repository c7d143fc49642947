"""One record of a benchmark file into a question: our own schema, the two published layouts, a CSV row."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safescale.core.errors import Defect
from safescale.core.inputs.records import DefectLog, Record, shown
from safescale.core.inputs.text import visible_line
from safescale.core.inputs.text_rules import MAX_QUESTION_BYTES
from safescale.core.safety.benchmark.benchmark import FLAGS, LETTERS, OptionLabels, Question
from safescale.core.safety.benchmark.question_rules import (
    TEXT_FIELDS,
    Fault,
    answer_fault,
    group_faults,
    name_faults,
    option_faults,
    text_faults,
)

PUBLISHED_PREFIX = "risk_radiorag_"
FOUND_AT_MOST = 20
"""Defects, and warnings, of one record that are listed; the last one counts the others."""

_ITEM_CHARACTERS = 80
_OWN_FIELDS = frozenset(
    (
        "question_id",
        "question_text",
        "options",
        "correct_answer",
        "subspecialty",
        "question_type",
        "cluster",
        "groups",
        "labels",
        *TEXT_FIELDS,
    )
)
# Carried by the published questions file; contexts are built anew by this system, so they are not read.
_PUBLISHED_FIELDS = frozenset(("metadata", "dataset", "prompt_conditions", "retrieved_contexts"))
_MERGED_FIELDS = frozenset(
    ("question_id", "question_text", "options", "answer_idx", "subspecialty", "question_type", "cluster", "groups")
)
_MERGED_FLAG = re.compile(rf"option_([0-9]{{1,4}})_({'|'.join(FLAGS)})", flags=re.ASCII)
_CSV_FIELDS = (_OWN_FIELDS - {"options", "groups"}) | {*FLAGS, "dataset"}
_CSV_OPTION = re.compile(r"option_([A-Z])")
_CSV_GROUP = re.compile(r"group_(.+)", flags=re.DOTALL)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record read: `question` is None where a defect prevented one; `merged` marks the published labels layout."""

    record: Record
    question_id: str | None
    question: Question | None
    merged: bool


def canonical_id(question_id: str) -> str:
    """Return the id shared by all layouts: a bare number n, as in the merged layout, is `risk_radiorag_<n>`."""
    match = re.fullmatch(rf"(?:{PUBLISHED_PREFIX})?([0-9]+)", question_id, flags=re.ASCII)
    return f"{PUBLISHED_PREFIX}{match.group(1).lstrip('0') or '0'}" if match else question_id


def shown_item(question_id: str) -> str:
    """Return an id as a defect shows it: in one line, cut to 80 characters."""
    return visible_line(question_id[:_ITEM_CHARACTERS])


def draft_of(record: Record, kind: str, findings: DefectLog) -> Draft:
    """Read one record of a file of that kind ("json", "jsonl" or "csv"); the record's fields decide its layout."""
    if kind == "csv":
        return _draft_of_row(record, findings)
    reader = _BenchmarkReader(record, findings)
    if "answer_idx" in record.data or any(_MERGED_FLAG.fullmatch(key) for key in record.data):
        return reader.merged()
    return reader.own()


class _BenchmarkReader:
    """Reads the fields of one record and reports each defect under the record's place and id."""

    def __init__(self, record: Record, findings: DefectLog, *, csv: bool = False) -> None:
        self._record = record
        self._data = record.data
        self._findings = findings
        self._csv = csv
        self._item: str | None = None
        self._found = self._warned = 0

    def own(self) -> Draft:
        """Read a record of our own schema or of the published questions file."""
        question_id = self._id(numbers=False)
        text = self._text("question_text", required=True, max_bytes=MAX_QUESTION_BYTES)
        options = self._options()
        answer = self._answer("correct_answer", options)
        metadata = self._data.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            self.defect(("metadata",), shown(metadata), "an object with the evidence texts")
        inner = metadata if isinstance(metadata, dict) else {}
        clean, conflict, report = (self._evidence(name, inner) for name in TEXT_FIELDS)
        labels = self._labels(options)
        specialty, kind = (self._name(name) for name in ("subspecialty", "question_type"))
        cluster, groups = self._cluster(), self._groups()
        self._warn_unknown(_OWN_FIELDS | _PUBLISHED_FIELDS)
        question = None
        if not self._end():
            question = Question(
                question_id or "", text, options, answer, specialty, kind, clean, conflict, labels, report,
                cluster, groups,
            )  # fmt: skip
        return Draft(self._record, question_id, question, merged=False)

    def merged(self) -> Draft:
        """Read a record of the published labels file: flags in fields `option_<i>_<flag>`, i = 1 for A."""
        question_id = self._id(numbers=True)
        text = self._text("question_text", required=False, max_bytes=MAX_QUESTION_BYTES)
        options = self._options()
        answer = self._answer("answer_idx", options)
        specialty, kind = (self._name(name) for name in ("subspecialty", "question_type"))
        labels = self._merged_labels(options)
        cluster, groups = self._cluster(), self._groups()
        self._warn_unknown(_MERGED_FIELDS | {key for key in self._data if _MERGED_FLAG.fullmatch(key)})
        question = None
        if not self._end():
            question = Question(
                question_id or "", text, options, answer, specialty, kind, labels=labels, cluster=cluster, groups=groups
            )
        return Draft(self._record, question_id, question, merged=True)

    def defect(self, path: tuple[str, ...], value: str, expected: str) -> None:
        """Report what is wrong at `path`; only the first ones are looked up, since one record can have millions."""
        self._found += 1
        if self._found <= FOUND_AT_MOST:
            self._findings.defects.append(self._finding(path, value, expected))

    def _faults(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.defect(fault.path, fault.value, fault.expected)

    def _end(self) -> bool:
        """Count what was not listed; whether the record has defects."""
        for count, add in ((self._found, self._findings.defects.append), (self._warned, self._findings.warn)):
            if count > FOUND_AT_MOST:
                more = f"{count - FOUND_AT_MOST:,} more"
                record = self._record
                add(Defect(record.file, record.line, self._item, None, more, "none in this record"))
        return bool(self._found)

    def _finding(self, path: tuple[str, ...], value: str, expected: str) -> Defect:
        record = self._record
        name = ".".join(path)
        if self._csv and path[0] == "options":
            name = f"option_{path[1]}" if len(path) > 1 else "option_A, option_B, …"
        if self._csv and path[0] == "groups" and len(path) > 1:
            name = f"group_{path[1]}"
        return Defect(record.file, record.line_of(path), self._item, name, value, expected)

    def _id(self, *, numbers: bool) -> str | None:
        value = self._data.get("question_id")
        if numbers and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            value = str(value)
        if isinstance(value, str) and value.strip():
            question_id = canonical_id(value.strip()) if numbers else value.strip()
            self._item = shown_item(question_id)
            self._faults(name_faults(("question_id",), question_id))
            return question_id
        found = shown(value) if "question_id" in self._data else "missing"
        self.defect(("question_id",), found, "a number or a non-empty text" if numbers else "a non-empty text")
        return None

    def _name(self, name: str) -> str:
        text = self._text(name, required=False)
        self._faults(name_faults((name,), text))
        return text

    def _cluster(self) -> str:
        """Return the name of the cluster; files number articles and patients, so a number is a name."""
        value = self._data.get("cluster")
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            self.defect(("cluster",), shown(value), "a text or a whole number")
            return ""
        return self._name("cluster")

    def _groups(self) -> dict[str, str]:
        value = self._data.get("groups")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.defect(("groups",), shown(value), "an object with a text for the name of each group")
            return {}
        groups = {}
        for name, held in value.items():
            if isinstance(held, int) and not isinstance(held, bool):
                groups[name.strip()] = str(held)
            elif isinstance(held, str):
                groups[name.strip()] = held.strip()
            elif held is not None:
                self.defect(("groups", name), shown(held), "a text or a whole number")
        self._faults(group_faults(groups))
        return groups

    def _text(self, name: str, *, required: bool, max_bytes: int | None = None) -> str:
        value = self._data.get(name)
        if isinstance(value, str) and (value.strip() or not required):
            if max_bytes is not None:
                self._faults(text_faults((name,), value.strip(), max_bytes))
            return value.strip()
        if value is not None or required:
            found = shown(value) if name in self._data else "missing"
            self.defect((name,), found, "a non-empty text" if required else "a text")
        return ""

    def _evidence(self, name: str, metadata: Mapping[str, Any]) -> str | None:
        inside = name not in self._data and name in metadata
        value = metadata[name] if inside else self._data.get(name)
        if value is not None and not isinstance(value, str):
            self.defect(("metadata", name) if inside else (name,), shown(value), "a text")
            return None
        self._faults(text_faults(("metadata", name) if inside else (name,), value or ""))
        return value.strip() or None if value else None

    def _options(self) -> dict[str, str]:
        value = self._data.get("options")
        if not isinstance(value, dict):
            found = shown(value) if "options" in self._data else "missing"
            self.defect(("options",), found, "an object with a text for each letter")
            return {}
        options = {}
        for letter, text in value.items():
            if len(letter) != 1 or letter not in LETTERS:
                expected = "one letter of A to Z as the option's name" + _capital(letter, LETTERS)
                self.defect(("options", letter), shown(letter), expected)
            elif not isinstance(text, str) or not text.strip():
                self.defect(("options", letter), shown(text), "a non-empty text")
                options[letter] = ""
            else:
                options[letter] = text.strip()
        self._faults(option_faults(options))
        return options

    def _answer(self, name: str, options: dict[str, str]) -> str:
        value = self._data.get(name)
        if isinstance(value, str) and value in options:
            return value
        found = shown(value) if name in self._data else "missing"
        if options or name not in self._data:
            fault = answer_fault((name,), found, options)
            self.defect(fault.path, fault.value, fault.expected + _capital(value, options))
        return ""

    def _labels(self, options: dict[str, str]) -> dict[str, OptionLabels]:
        value = self._data.get("labels")
        if value is None or not options:
            return {}
        if not isinstance(value, dict):
            self.defect(("labels",), shown(value), "an object with the labels of each letter")
            return {}
        labels = {}
        for letter, flags in value.items():
            if letter not in options:
                self.defect(
                    ("labels", letter), shown(flags), f"labels for the options {', '.join(sorted(options))} alone"
                )
            elif not isinstance(flags, dict):
                self.defect(("labels", letter), shown(flags), f"an object with {', '.join(FLAGS)}")
            else:
                for name in sorted(set(flags) - set(FLAGS)):
                    self.defect(("labels", letter, name), shown(flags[name]), f"no labels but {', '.join(FLAGS)}")
                labels[letter] = OptionLabels(*(self._flag(("labels", letter, name), flags, name) for name in FLAGS))
        for letter in sorted(set(options) - set(value)):
            self.defect(("labels", letter), "missing", f"{', '.join(FLAGS)} of each option")
        return labels

    def _merged_labels(self, options: dict[str, str]) -> dict[str, OptionLabels]:
        # The published file pads questions of fewer options with zeros: only a raised flag labels an option.
        for key, value in self._data.items():
            match = _MERGED_FLAG.fullmatch(key)
            if options and match and value not in (0, None) and not 1 <= int(match.group(1)) <= len(options):
                self.defect((key,), shown(value), f"no flag, since the options are {', '.join(sorted(options))}")
        if not any(_MERGED_FLAG.fullmatch(key) for key in self._data):
            # As our own export writes a question without labels: no flags, not zeros.
            return {}
        return {
            letter: OptionLabels(*(self._flag((key,), self._data, key) for key in _merged_keys(letter)))
            for letter in sorted(options)
        }

    def _flag(self, path: tuple[str, ...], flags: Mapping[str, Any], key: str) -> bool:
        value = flags.get(key)
        if isinstance(value, (bool, int)) and value in (0, 1):
            return bool(value)
        self.defect(path, shown(value) if key in flags else "missing", "0 or 1")
        return False

    def _warn_unknown(self, known: frozenset[str]) -> None:
        listed = ", ".join(sorted(known & (_OWN_FIELDS | _MERGED_FIELDS)))
        for name in self._data:
            if name not in known:
                self._warned += 1
                if self._warned <= FOUND_AT_MOST:
                    expected = f"no other fields than {listed}; it is ignored"
                    self._findings.warn(self._finding((name,), shown(self._data[name]), expected))


def _capital(value: object, options: Iterable[str]) -> str:
    """Return the hint for a letter that is an option in the other case."""
    is_small = isinstance(value, str) and value.upper() != value and value.strip().upper() in options
    return f': letters are capitals, "{value.strip().upper()}"' if isinstance(value, str) and is_small else ""


def _merged_keys(letter: str) -> tuple[str, ...]:
    return tuple(f"option_{LETTERS.index(letter) + 1}_{flag}" for flag in FLAGS)


def check_header(records: Sequence[Record], findings: DefectLog) -> list[Record]:
    """Report what is wrong with the columns of a CSV file, once; the records without the columns that nobody reads."""
    if not records:
        return []
    first = records[0]
    names = [name for name in first.data if not (_CSV_OPTION.fullmatch(name) or _CSV_GROUP.fullmatch(name))]
    flags = [name for name in FLAGS if name in first.data]
    for flag in FLAGS:
        if flags and flag not in flags:
            expected = f"all of {', '.join(FLAGS)}, or none"
            findings.defects.append(Defect(first.file, 1, None, "header", f"no column {flag}", expected))
    unknown = [name for name in names if name not in _CSV_FIELDS]
    for name in unknown[:FOUND_AT_MOST]:
        expected = f"no other columns than {', '.join(sorted(_CSV_FIELDS - _PUBLISHED_FIELDS))}; it is ignored"
        findings.warnings.append(Defect(first.file, 1, None, "header", shown(name), expected))
    if len(unknown) > FOUND_AT_MOST:
        more = f"{len(unknown) - FOUND_AT_MOST:,} more columns"
        findings.warnings.append(Defect(first.file, 1, None, "header", more, "none beside those of the format"))
    left_out = frozenset(unknown)
    return [
        Record(each.file, each.line, {name: text for name, text in each.data.items() if name not in left_out})
        for each in records
    ]


def _draft_of_row(record: Record, findings: DefectLog) -> Draft:
    """Read a CSV row as our own schema; a flag column names the letters that carry the flag."""
    row = record.data
    data: dict[str, Any] = {
        name: text
        for name, text in row.items()
        if not (_CSV_OPTION.fullmatch(name) or _CSV_GROUP.fullmatch(name)) and name not in FLAGS
    }
    data["groups"] = {
        match.group(1): text for name, text in row.items() if text.strip() and (match := _CSV_GROUP.fullmatch(name))
    }
    options = {
        match.group(1): text for name, text in row.items() if text.strip() and (match := _CSV_OPTION.fullmatch(name))
    }
    data["options"] = options
    flagged = {flag: set(re.sub(r"[\s,;]", "", row[flag])) for flag in FLAGS if flag in row}
    if flagged:
        data["labels"] = {letter: {flag: int(letter in flagged.get(flag, "")) for flag in FLAGS} for letter in options}
    for flag in FLAGS:
        for letter in sorted(flagged.get(flag, set()) - set(options))[:FOUND_AT_MOST]:
            expected = f"letters of the options {', '.join(sorted(options))}" + _capital(letter, options)
            item = shown_item(row.get("question_id", "")) or None
            findings.defects.append(Defect(record.file, record.line, item, flag, shown(letter), expected))
    return _BenchmarkReader(Record(record.file, record.line, data), findings, csv=True).own()
