"""Answer files into an `AnswerSet`: the published judged layout and our own exports.

Judged layout: `<model>.jsonl`, also gzipped, or `<model>/*_checked.jsonl`; one record per question with the answers of
all conditions. The letter that counts is `confirmed_answer` of `checked_answer(s)`; a letter that no question of the
benchmark could have as an option is none. Our own exports: `verdicts.jsonl` with one record per cell, or the tables
`verdicts` and `answers` (csv or parquet).

The latency of a failed greedy call is not a number: the published files count it as 0 s, which is not a measurement.
"""

import gzip
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from safescale.core.answer_cells import NULL_MARK, AnswerCells
from safescale.core.answers import AnswerSet
from safescale.core.benchmark import Benchmark
from safescale.core.benchmark_records import canonical_id
from safescale.core.errors import Defect, InvalidInputError
from safescale.core.records import shown
from safescale.runtime.answer_tables import add_exported_tables, exported_tables
from safescale.runtime.files import read_source

PUBLISHED_LETTERS = 5
"""The published analysis reads A to E whatever a question's options are."""
DEFECTS_AT_MOST = 20
_FILES_AHEAD = 2


def read_answers(folder: Path, benchmark: Benchmark) -> AnswerSet:
    """All answers of a folder, under the question ids of the benchmark.

    Raises InvalidInputError where the folder holds no answers, or answers that cannot be used; `defects` lists what is
    wrong, at most 20 times. Raises StorageError where the disk fails.
    """
    options = max((len(question.options) for question in benchmark.questions), default=0)
    cells = AnswerCells(max(options, PUBLISHED_LETTERS))
    tables = exported_tables(folder) if folder.is_dir() else None
    if tables is not None:
        add_exported_tables(tables, cells)
        return cells.answer_set()
    reader = _Reader(benchmark, cells)
    for path, content in _contents(_answer_files(folder)):
        reader.file(path, content)
        if len(reader.defects) >= DEFECTS_AT_MOST:
            break
    if reader.defects:
        more = f" (and {len(reader.defects) - 1} more)" if len(reader.defects) > 1 else ""
        raise InvalidInputError(f"{reader.defects[0]}{more}", defects=reader.defects[:DEFECTS_AT_MOST])
    return cells.answer_set()


def _answer_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        expected = "a folder with answer files"
        raise InvalidInputError(
            f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; expected {expected}"
        )
    files = [path for pattern in ("*.jsonl", "*.jsonl.gz") for path in folder.glob(pattern)]
    files += [path for pattern in ("*/*_checked.jsonl", "*/*_checked.jsonl.gz") for path in folder.glob(pattern)]
    if not files:
        raise InvalidInputError(
            f"{folder}: no answer files; expected <model>.jsonl or <model>.jsonl.gz in the judged layout, "
            "<model>/*_checked.jsonl, or the files of `safescale export`"
        )
    return sorted(files)


def _contents(files: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """Each file with its content; the next ones are read and decompressed while one is parsed."""
    with ThreadPoolExecutor(max_workers=1) as ahead:
        waiting: deque[Future[bytes]] = deque(ahead.submit(_content, path) for path in files[:_FILES_AHEAD])
        for number, path in enumerate(files):
            content = waiting.popleft().result()
            if number + _FILES_AHEAD < len(files):
                waiting.append(ahead.submit(_content, files[number + _FILES_AHEAD]))
            yield path, content


def _content(path: Path) -> bytes:
    data = read_source(path).data
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(f"{path}: {error}; expected a whole gzip file") from error


class _Reader:
    """Reads records into cells and collects what is wrong with them."""

    def __init__(self, benchmark: Benchmark, cells: AnswerCells) -> None:
        self.defects: list[Defect] = []
        self._cells = cells
        self._correct = {question.question_id: question.correct_answer for question in benchmark.questions}
        self._path = Path()
        self._line = 0
        self._judged = self._parsed = False

    def file(self, path: Path, content: bytes) -> None:
        """Read one file of records, one JSON object per line."""
        self._path, self._judged, self._parsed = path, False, False
        for number, line in enumerate(content.split(b"\n"), start=1):
            if not line or line.isspace():
                continue
            if len(self.defects) >= DEFECTS_AT_MOST:
                return
            self._line = number
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                self._defect(None, None, str(error), "one JSON object per line")
                continue
            self._record(record)
        if self._parsed and not self._judged:
            self._line = 1
            self._defect(None, "checked_answer", "missing", "answers that were judged, with checked_answer(s)")

    def _record(self, record: Any) -> None:
        if isinstance(record, dict) and isinstance(record.get("conditions"), dict):
            self._cells.formulated(str(record.get("formulation") or "letter"))
            self._question(record)
        elif isinstance(record, dict) and isinstance(record.get("cell"), dict):
            self._verdict(record)
        else:
            self._defect(None, "conditions", shown(record), "a record of the judged layout or of our export")

    def _question(self, record: Mapping[str, Any]) -> None:
        question_id = self._question_id(record.get("question_id"), record.get("correct_answer"))
        if question_id is None:
            return
        model = self._model(record.get("model"))
        for condition, block in record["conditions"].items():
            if not block:
                continue
            if not isinstance(block, dict):
                self._defect(question_id, f"conditions.{condition}", shown(block), "an object")
                continue
            greedy, latency = self._greedy(block.get("greedy"))
            samples = self._samples(block.get("stochastic"))
            self._cells.add((model, condition, question_id), greedy, samples, latency)

    def _model(self, value: Any) -> str:
        """The file's name or, where the record names another model, that one; an owner before a slash is the same."""
        name = self._path.parent.name if "_checked.jsonl" in self._path.name else self._path.name.split(".jsonl")[0]
        if isinstance(value, str) and value and value.rsplit("/", 1)[-1] != name:
            return value
        return name

    def _question_id(self, value: Any, answer: Any) -> str | None:
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        question_id = text if text in self._correct else canonical_id(text)
        if question_id not in self._correct:
            found = "missing" if value is None else shown(value)
            self._defect(None, "question_id", found, "the id of a question that has labels")
            return None
        if answer is not None and answer != self._correct[question_id]:
            expected = f"{self._correct[question_id]}, the correct answer in the labels"
            self._defect(question_id, "correct_answer", shown(answer), expected)
        return question_id

    def _greedy(self, block: Any) -> tuple[str, float | None]:
        """The letter, empty if it was not asked, and the seconds of a call that did not fail."""
        if not isinstance(block, dict):
            return "", None
        checked = block.get("checked_answer")
        if checked is None:
            self._parsed = self._parsed or bool(block.get("parsed_answer"))
        else:
            self._judged = True
        seconds = block.get("elapsed_s")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or block.get("error"):
            return _letter(checked), None
        return _letter(checked), float(seconds)

    def _samples(self, block: Any) -> str:
        if not isinstance(block, dict):
            return ""
        checked = block.get("checked_answers")
        if not isinstance(checked, list) or not checked:
            parsed = block.get("parsed_answers")
            self._parsed = self._parsed or (isinstance(parsed, list) and any(parsed))
            return ""
        try:
            letters = "".join([answer["confirmed_answer"] or NULL_MARK for answer in checked])
        except (TypeError, KeyError):
            letters = ""
        # One character each is the rule; whatever does not keep it is read answer by answer.
        if len(letters) != len(checked):
            letters = "".join(map(_letter, checked))
        self._judged = True
        return letters

    def _verdict(self, record: Mapping[str, Any]) -> None:
        cell = record["cell"]
        question_id = self._question_id(cell.get("question_id"), None)
        if question_id is None:
            return
        self._cells.formulated(str(record.get("formulation", "")).removeprefix("FORMULATION_").lower() or "letter")
        samples = "".join([reading.get("letter", NULL_MARK) for reading in record.get("samples", ())])
        missing = int(record.get("samples_asked", 0)) - len(samples)
        greedy = record.get("greedy", {}).get("letter", NULL_MARK) if record.get("greedy_asked") else ""
        seconds = None if record.get("failure") else record.get("timings", {}).get("greedy_s")
        place = (str(cell.get("model", "")), str(cell.get("condition", "")), question_id)
        self._cells.add(place, greedy, samples + NULL_MARK * missing, seconds)

    def _defect(self, item: str | None, field: str | None, value: str, expected: str) -> None:
        self.defects.append(Defect(str(self._path), self._line, item, field, value, expected))


def _letter(checked: Any) -> str:
    """The confirmed letter of one judged answer; the null mark where there is none."""
    letter = checked.get("confirmed_answer") if isinstance(checked, dict) else None
    return letter if isinstance(letter, str) and len(letter) == 1 else NULL_MARK
