"""Records of answer files, each held to what it must be: the published judged layout and our export of whole verdicts.

What cannot be read for what it is, is a defect with file, line, question and field. It is never an abstention: that
would make harm look rarer than it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from safescale.core.errors import Defect
from safescale.core.inputs.records import shown, strict_json
from safescale.core.inputs.text import visible_line
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.answers.answer_cells import NULL_MARK, UNREAD_MARK, AnswerCells
from safescale.core.safety.answers.judge import JUDGE_FAILED
from safescale.core.safety.answers.reading import READINGS, STRICT
from safescale.core.safety.benchmark.benchmark import LETTERS, Benchmark
from safescale.core.safety.benchmark.parser import canonical_id, shown_item
from safescale.formats.answer_notes import UnreadCounts

DEFECTS_AT_MOST = 20
LONGEST_CALL_S = 86_400.0
"""Seconds of a call that can be: longer ones are milliseconds, or a clock that was set."""

_UTF8_MARK = b"\xef\xbb\xbf"
_SELECTIONS = frozenset(("yes", "no"))
_FORMULATIONS = frozenset(("letter", "cloze"))
MOST_SAMPLES = 10_000
COUNT = f"a whole number from 0 to {MOST_SAMPLES:,}"


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a question: the letters of its options, and the correct one."""

    letters: frozenset[str]
    correct: str
    readable: frozenset[str | None]


def truths_of(benchmark: Benchmark) -> dict[str, Truth]:
    """Return what is known of each question, by id."""
    return {
        each.question_id: Truth(frozenset(each.options), each.correct_answer, frozenset((*each.options, None, "")))
        for each in benchmark.questions
    }


@dataclass(slots=True)
class StrayLetters:
    """Capital letters that are no option of their question: how many, and the first place."""

    count: int = 0
    first: str = ""


@dataclass(slots=True)
class FileState:
    """What was met in the file that is read: judged answers, those that should have been, and names of models."""

    path: Path
    line: int = 0
    records: int = 0
    judged: bool = False
    unjudged: list[Defect] = field(default_factory=list)
    models: set[str] = field(default_factory=set)


class RecordReader:
    """Reads records into cells and collects what is wrong with them, and what a person should know of them."""

    def __init__(self, benchmark: Benchmark, cells: AnswerCells) -> None:
        self.defects: list[Defect] = []
        self.notes: list[str] = []
        self.stray = StrayLetters()
        self.unread = UnreadCounts()
        self._cells = cells
        self._truths = truths_of(benchmark)
        self._places: dict[tuple[str, str, str], tuple[FileState, int]] = {}
        self._file = FileState(Path())
        self._question = ""

    @property
    def full(self) -> bool:
        """Whether there are as many defects as are listed."""
        return len(self.defects) >= DEFECTS_AT_MOST

    def file(self, path: Path, content: bytes) -> None:
        """Read one file of records, one JSON object per line."""
        file = self._file = FileState(path)
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            file.line = 1
            self._defect("encoding", "UTF-16", "UTF-8")
            return
        for number, line in enumerate(content.removeprefix(_UTF8_MARK).split(b"\n"), start=1):
            if not line or line.isspace():
                continue
            if self.full:
                return
            file.line, self._question = number, ""
            file.records += 1
            try:
                record = _parsed(line)
            except UnicodeDecodeError as error:
                found = f"byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line"
                self._defect("encoding", found, "UTF-8")
            except ValueError as error:
                self._defect(None, str(error), "one JSON object per line")
            else:
                self._record(record)
        self._end_of_file(file)

    def _end_of_file(self, file: FileState) -> None:
        self._question = ""
        if not file.records:
            self.defects.append(Defect(str(file.path), None, None, None, "no records", "at least one record"))
        if file.judged:
            self.defects += file.unjudged
        elif file.unjudged:
            file.line = 1
            self._defect("checked_answer", "missing", "answers that were judged, with checked_answer(s)")
        if file.judged and len(file.models) > 1:
            names = ", ".join(sorted(map(visible_line, file.models)))
            self.notes.append(f"{file.path} has answers of {len(file.models)} models: {names}.")

    def _record(self, record: Any) -> None:
        if isinstance(record, dict) and isinstance(record.get("conditions"), dict):
            self._judged(record)
        elif isinstance(record, dict) and isinstance(record.get("cell"), dict):
            self._verdict(record)
        else:
            self._defect("conditions", shown(record), "a record of the judged layout or of our export")

    def _judged(self, record: Mapping[str, Any]) -> None:
        truth = self._truth(record.get("question_id"))
        if truth is None:
            return
        answer = record.get("correct_answer")
        if answer is not None and answer != truth.correct:
            self._defect("correct_answer", shown(answer), f"{truth.correct}, the correct answer in the labels")
        self._formulated(record.get("formulation"), "", record.get("reading"))
        model = self._model(record.get("model"))
        for condition, block in record["conditions"].items():
            place = f"conditions.{visible_line(condition[:80])}"
            if block is None or block == {}:
                continue
            if not isinstance(block, dict):
                self._defect(place, shown(block), "an object")
                continue
            greedy, latency = self._greedy(block.get("greedy"), f"{place}.greedy", truth)
            samples = self._samples(block.get("stochastic"), f"{place}.stochastic", truth)
            self._add((model, condition), greedy, samples, latency)

    def _add(self, row: tuple[str, str], greedy: str, samples: str, latency: float | None) -> None:
        model, condition = row
        if row not in self.unread.greedy:
            self.unread.greedy[row] = [0, 0]
            for name, value in (("model", model), ("condition", condition)):
                fault = ("empty", "a name") if not value else name_fault(value)
                if fault is not None:
                    self._defect(name, *fault)
        cell = (model, condition, self._question)
        file, line = self._places.setdefault(cell, (self._file, self._file.line))
        if file is not self._file or line != self._file.line:
            expected = f"each cell once, since {file.path}:{line} has {model}, {condition}, {self._question}"
            self._defect("question_id", shown(self._question), visible_line(expected))
            return
        self._file.models.add(model)
        self.unread.greedy[row][bool(greedy)] += 1
        self._cells.add(cell, greedy, samples, latency)

    def _model(self, value: Any) -> str:
        """Return the file's name or the other model that a record names, ignoring an owner before a slash."""
        path = self._file.path
        name = path.parent.name if "_checked.jsonl" in path.name else path.name.split(".jsonl")[0]
        if value is not None and not isinstance(value, str):
            self._defect("model", shown(value), "the name of a model")
        elif value and value.rsplit("/", 1)[-1] != name:
            return value
        return name

    def _truth(self, value: Any) -> Truth | None:
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        question_id = text if text in self._truths else canonical_id(text)
        if question_id not in self._truths:
            found = "missing" if value is None else shown(value)
            self._defect("question_id", found, "the id of a question that has labels")
            return None
        self._question = question_id
        return self._truths[question_id]

    def _formulated(self, value: Any, prefix: str, reading: Any) -> None:
        name = value.removeprefix(prefix).lower() if isinstance(value, str) and value else "letter"
        if (value is not None and not isinstance(value, str)) or name not in _FORMULATIONS:
            self._defect("formulation", shown(value), "letter or cloze")
        elif reading and reading not in READINGS:
            self._defect("reading", shown(reading), " or ".join(READINGS))
        else:
            self._cells.formulated(name)
            self._cells.read((reading or STRICT) if name == "letter" else "")

    def _greedy(self, block: Any, place: str, truth: Truth) -> tuple[str, float | None]:
        """Return the letter, empty if it was not asked, and the seconds of a call that did not fail."""
        if block is None or block == {}:
            return "", None
        if not isinstance(block, dict):
            self._defect(place, shown(block), "an object")
            return "", None
        seconds = self._seconds(block.get("elapsed_s"), f"{place}.elapsed_s")
        checked, failed = block.get("checked_answer"), bool(block.get("error"))
        if checked is None:
            if block.get("parsed_answer") or not failed:
                self._not_judged(f"{place}.checked_answer", block.get("parsed_answer"))
            self.unread.calls += failed
            return UNREAD_MARK, None
        self._file.judged = True
        letter = self._confirmed(checked, f"{place}.checked_answer", truth)
        if letter == NULL_MARK:
            letter = self._null(checked, f"{place}.checked_answer", failed=failed)
            self.unread.calls += failed
            self.unread.answers += letter == UNREAD_MARK and not failed
        return letter, None if failed else seconds

    def _samples(self, block: Any, place: str, truth: Truth) -> str:
        if block is None or block == {}:
            return ""
        if not isinstance(block, dict):
            self._defect(place, shown(block), "an object")
            return ""
        letters = self._drawn(block, place, truth)
        failed = bool(block.get("error"))
        self.unread.calls += failed and (not letters or NULL_MARK in letters)
        if NULL_MARK not in letters:
            return letters
        marks = list(letters)
        for index, each in enumerate(block["checked_answers"]):
            # Most nulls are abstentions of files that are not ours, which say nothing more of them.
            if letters[index] == NULL_MARK and (failed or (isinstance(each, dict) and "unread" in each)):
                marks[index] = self._null(each, f"{place}.checked_answers.{index}", failed=failed)
        self.unread.answers += 0 if failed else marks.count(UNREAD_MARK)
        return "".join(marks)

    def _null(self, checked: Any, place: str, *, failed: bool) -> str:
        """Return the mark of an answer without a letter: nobody read it where our export says so, or a call failed.

        Which of several calls failed is not said in files that are not ours: any of them may have.
        """
        unread = checked.get("unread") if isinstance(checked, dict) else None
        if unread is not None and not isinstance(unread, bool):
            self._defect(f"{place}.unread", shown(unread), "true or false")
        return UNREAD_MARK if (failed if unread is None else unread) else NULL_MARK

    def _drawn(self, block: Mapping[str, Any], place: str, truth: Truth) -> str:
        place, checked, parsed = f"{place}.checked_answers", block.get("checked_answers"), block.get("parsed_answers")
        if not (checked is None or isinstance(checked, list)) or not (parsed is None or isinstance(parsed, list)):
            self._defect(place, shown(checked), "a list, as long as the list parsed_answers")
            return ""
        if not checked:
            if parsed and (any(parsed) or not block.get("error")):
                self._not_judged(place, parsed)
            return ""
        self._file.judged = True
        if parsed is not None and len(parsed) != len(checked):
            self._defect(place, f"{len(checked)} entries", f"{len(parsed)}, one for each of parsed_answers")
        try:
            letters = [answer["confirmed_answer"] for answer in checked]
            plain = truth.readable.issuperset(letters)
            plain = plain and _SELECTIONS.issuperset([answer["clear_selection"] for answer in checked])
        except (TypeError, KeyError):
            letters, plain = [], False
        # Nearly all lists hold options and nulls alone; whatever is not so plain is read answer by answer.
        if plain:
            return "".join([letter or NULL_MARK for letter in letters])
        return "".join(self._confirmed(each, f"{place}.{index}", truth) for index, each in enumerate(checked))

    def _confirmed(self, checked: Any, place: str, truth: Truth) -> str:
        """Return the confirmed letter of one judged answer; the null mark where the judge found none."""
        if not isinstance(checked, dict) or "confirmed_answer" not in checked:
            self._defect(place, shown(checked), "an object with confirmed_answer, a letter or null")
            return NULL_MARK
        clear = checked.get("clear_selection")
        if clear is not None and not (isinstance(clear, str) and clear.strip().lower() in _SELECTIONS):
            self._defect(f"{place}.clear_selection", shown(clear), "yes or no")
        return self._letter(checked["confirmed_answer"], f"{place}.confirmed_answer", truth)

    def _letter(self, value: Any, place: str, truth: Truth) -> str:
        if value is None or value == "":
            return NULL_MARK
        if isinstance(value, str) and value in truth.letters:
            return value
        if isinstance(value, str) and len(value) == 1 and value in LETTERS:
            self.stray.count += 1
            self.stray.first = self.stray.first or f"{self._file.path}:{self._file.line} {self._question} {place}"
            return value
        self._defect(place, shown(value), f"one of the letters {', '.join(sorted(truth.letters))} alone, or null")
        return NULL_MARK

    def _seconds(self, value: Any, place: str) -> float | None:
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LONGEST_CALL_S:
            return float(value)
        self._defect(place, shown(value), f"seconds from 0 to {LONGEST_CALL_S:,.0f}, or null")
        return None

    def _not_judged(self, place: str, parsed: Any) -> None:
        if len(self._file.unjudged) < DEFECTS_AT_MOST:
            expected = f"what the judge said of the answer that was parsed as {shown(parsed)}"
            self._file.unjudged.append(self._at(place, "missing", expected))

    def _verdict(self, record: Mapping[str, Any]) -> None:
        """Return a whole verdict of our export."""
        cell = record["cell"]
        truth = self._truth(cell.get("question_id"))
        if truth is None:
            return
        self._formulated(record.get("formulation"), "FORMULATION_", record.get("reading"))
        failed = bool(record.get("failure"))
        self.unread.cells += failed
        # A judge that failed was asked after the model had answered.
        answered = not failed or _reason(record["failure"]) == JUDGE_FAILED
        drawn, timings, greedy_reading = (record.get(name) for name in ("samples", "timings", "greedy"))
        drawn, timings = [] if drawn is None else drawn, timings or {}
        if not isinstance(drawn, list) or not isinstance(timings, dict):
            self._defect("samples", shown(drawn), "a list of samples, and an object timings")
            return
        asked = record.get("samples_asked", 0)
        if isinstance(asked, bool) or not isinstance(asked, int) or not 0 <= asked <= MOST_SAMPLES:
            self._defect("samples_asked", shown(asked), COUNT)
            return
        samples = "".join(self._read(each, f"samples.{index}", truth) for index, each in enumerate(drawn))
        if len(samples) != asked and (answered or len(samples) > asked):
            self._defect("samples", f"{len(samples)} samples", f"{asked}, as samples_asked says")
        greedy = ""
        if record.get("greedy_asked"):
            if greedy_reading is None and answered:
                self._defect("greedy", "missing", "an answer, since the cell did not fail")
            greedy = self._read({} if greedy_reading is None else greedy_reading, "greedy", truth)
        seconds = self._seconds(timings.get("greedy_s"), "timings.greedy_s")
        row = [value if isinstance(value, str) else "" for value in (cell.get("model"), cell.get("condition"))]
        self._add(
            (row[0], row[1]), greedy, samples + UNREAD_MARK * (asked - len(samples)), seconds if answered else None
        )

    def _read(self, reading: Any, place: str, truth: Truth) -> str:
        if not isinstance(reading, dict):
            self._defect(place, shown(reading), "an object with the letter, if there is one")
            return NULL_MARK
        # Records of version 0.1.0 do not hold who read them: one with a reason for a review counts as unread.
        if not reading.get("letter") and not reading.get("read_by") and (reading.get("review_reason") or not reading):
            self.unread.answers += bool(reading)
            return UNREAD_MARK
        return self._letter(reading.get("letter"), f"{place}.letter", truth)

    def _defect(self, field: str | None, value: str, expected: str) -> None:
        self.defects.append(self._at(field, value, expected))

    def _at(self, field: str | None, value: str, expected: str) -> Defect:
        item = shown_item(self._question) or None
        return Defect(str(self._file.path), self._file.line, item, field, value, expected)


def _reason(failure: Any) -> str:
    return str(failure.get("reason", "")) if isinstance(failure, dict) else ""


def _parsed(line: bytes) -> Any:
    """Return the value of a line, read strictly.

    The quick reader keeps the last of two equal keys without a word. A line that may have some is read again by the
    strict one, which takes three times as long.
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        strict_json(line.decode())
        raise ValueError(str(error)) from error
    return strict_json(line.decode()) if _may_repeat(line, record) else record


def _may_repeat(line: bytes, record: Any) -> bool:
    """Whether the line has more keys than what was read of it; a text with a quote and a colon looks so, too."""
    conditions = record.get("conditions") if isinstance(record, dict) else None
    if not isinstance(conditions, dict):
        return True
    blocks = [block for block in conditions.values() if isinstance(block, dict)]
    parts = [part for block in blocks for part in block.values() if isinstance(part, dict)]
    inner = [each for part in parts for each in part.values() if isinstance(each, (dict, list))]
    objects = [each for each in inner if isinstance(each, dict)]
    lists = [each for each in inner if isinstance(each, list) and each and isinstance(each[0], dict)]
    keys = len(record) + len(conditions) + sum(map(len, blocks)) + sum(map(len, parts)) + sum(map(len, objects))
    try:
        return line.count(b'":') != keys + sum(sum(map(len, each)) for each in lists)
    except TypeError:
        return True
