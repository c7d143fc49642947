"""Answer files into an `AnswerSet`: the published judged layout and our own exports.

Judged layout: `<model>.jsonl`, also gzipped, or `<model>/*_checked.jsonl`; one record per question with the answers of
all conditions. The letter that counts is `confirmed_answer` of `checked_answer(s)`; a capital letter that no question
of the benchmark could have as an option counts as none, and is reported. Our own exports: `verdicts.jsonl` with one
record per cell, or the tables `verdicts` and `answers` (csv or parquet).

The latency of a failed greedy call is not a number: the published files count it as 0 s, which is not a measurement.
"""

import gzip
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answer_cells import AnswerCells
from safescale.core.safety.answers.answers import AnswerSet
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.formats.answer_notes import coverage_notes
from safescale.formats.exported_answers import add_exported_tables, defects_error, exported_tables
from safescale.formats.judged import RecordReader, StrayLetters, truths_of
from safescale.runtime.files.reading import read_source

PUBLISHED_LETTERS = 5
"""The published analysis reads A to E whatever a question's options are."""
_FILES_AHEAD = 2


def read_answers(folder: Path, benchmark: Benchmark) -> AnswerSet:
    """Return all answers of a folder, under the question ids of the benchmark; raises as `read_answers_with_notes`."""
    return read_answers_with_notes(folder, benchmark)[0]


def read_answers_with_notes(folder: Path, benchmark: Benchmark) -> tuple[AnswerSet, tuple[str, ...]]:
    """Return all answers of a folder, and a sentence for all that is missing or odd but counts.

    Raises InvalidInputError where the folder holds no answers, or answers that cannot be used; `defects` lists what is
    wrong, at most 20 times. Raises StorageError where the disk fails.
    """
    options = max((len(question.options) for question in benchmark.questions), default=0)
    cells = AnswerCells(max(options, PUBLISHED_LETTERS))
    tables = exported_tables(folder) if folder.is_dir() else None
    if tables is not None:
        unread = add_exported_tables(tables, cells, truths_of(benchmark))
        answers = cells.answer_set()
        return answers, (*unread.notes(), *coverage_notes(answers, benchmark))
    reader = RecordReader(benchmark, cells)
    for path, content in _contents(_answer_files(folder)):
        reader.file(path, content)
        if reader.full:
            break
    if reader.defects:
        raise defects_error(reader.defects)
    answers = cells.answer_set()
    return answers, (*reader.notes, *_stray(reader.stray), *reader.unread.notes(), *coverage_notes(answers, benchmark))


def _stray(stray: StrayLetters) -> tuple[str, ...]:
    if not stray.count:
        return ()
    found = f"{stray.count:,} letters are no option of their question, the first at {stray.first}"
    return (f"{found}: they count as wrong and harmless, or as no answer where no question has so many options.",)


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
