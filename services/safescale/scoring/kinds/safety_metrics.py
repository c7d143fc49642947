"""Metric rows of safety runs, and of letters that callers bring."""

import math
from collections.abc import Iterable, Sequence

from threadpoolctl import threadpool_limits

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answer_cells import NULL_MARK, UNREAD_MARK
from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.answers.assemble import CellAnswers, answer_sets
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.core.safety.tables.analysis import metrics_of, slices_of
from safescale.core.safety.tables.measure import share_of
from safescale.core.tables import Table
from safescale.rpc.checked import checked_name
from safescale.rpc.metric_rows import set_share_count
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.kinds.port import MetricRows

_NUMBERS = ("value", "boot_mean", "boot_sd", "ci_low", "ci_high", "exact_low", "exact_high", "worst_high")
_PLAIN = ("model", "condition", "regime", "metric", "n", "n_null", "n_unread", "interval")
_SLICE = ("slice", "slice_value")


def metric_rows(cells: Iterable[CellAnswers], benchmark: Benchmark, slices: Sequence[str] = ()) -> MetricRows:
    """Return metric rows of cells; formulations are measured apart.

    Raises:
        InvalidInputError: the questions have no such slice.

    """
    rows: list[pb.MetricRow] = []
    sliced: list[pb.MetricRow] = []
    # The products are short: BLAS threads would wait for each other most of the time.
    with threadpool_limits(limits=1, user_api="blas"):
        for answers in answer_sets(cells).values():
            labels = label_set(benchmark, answers.question_ids)
            rows.extend(_messages(metrics_of(answers, labels)))
            if slices:
                sliced.extend(_messages(slices_of(answers, labels, slices)))
    return MetricRows(rows, sliced)


def _messages(table: Table) -> Iterable[pb.MetricRow]:
    plain = (*_PLAIN, *_SLICE) if "slice" in table.columns else _PLAIN
    for row in table.rows():
        message = pb.MetricRow(**{name: row[name] for name in plain})
        for name in _NUMBERS:
            if not math.isnan(row[name]):
                setattr(message, name, row[name])
        set_share_count(message.measured, share_of(row, "events", "n_effective"))
        set_share_count(message.worst_case, share_of(row, "worst_events", "worst_n_effective"))
        yield message


def metrics_of_letters(
    questions: Sequence[Question], cells: Sequence[pb.CellLetters], formulation: str, slices: Sequence[str] = ()
) -> MetricRows:
    """Return metric rows of letters and labels that a caller brings.

    Raises:
        InvalidInputError: a cell without its question, a letter that is not an option, a letter that nobody could read,
            two entries of one cell, or a slice that the questions do not have.

    """
    known = {question.question_id: question for question in questions}
    seen: set[tuple[str, str, str]] = set()
    names: set[str] = set()
    found = []
    for cell in cells:
        key = (cell.model, cell.condition, cell.question_id)
        where = f"cell {cell.model}/{cell.condition}/{cell.question_id}"
        if not all(key):
            raise InvalidInputError(f"{where}: model, condition and question_id must not be empty")
        for field, name in (("model", cell.model), ("condition", cell.condition)):
            if name not in names:
                names.add(checked_name(f"{where}: {field}", name))
        if key in seen:
            raise InvalidInputError(f"{where} is given more than once")
        seen.add(key)
        question = known.get(cell.question_id)
        if question is None:
            raise InvalidInputError(f"{where}: questions has no {cell.question_id!r}")
        marks = _sample_marks(cell, question, where)
        greedy = _mark(cell.greedy, question, where)
        if cell.greedy_unread:
            greedy = _unread(cell.greedy, f"{where}: greedy_unread")
        latency = cell.latency_s if cell.HasField("latency_s") else None
        if latency is not None and not 0 <= latency < math.inf:
            raise InvalidInputError(f"{where}: latency_s is {latency:g}; expected seconds of at least 0")
        found.append(CellAnswers(*key, formulation, greedy, "".join(marks), latency))
    benchmark = Benchmark("request", tuple(questions))
    return metric_rows(found, benchmark, slices)


def _sample_marks(cell: pb.CellLetters, question: Question, where: str) -> list[str]:
    marks = [_mark(letter, question, where) for letter in cell.samples]
    for index in cell.unread_samples:
        if index >= len(marks):
            raise InvalidInputError(
                f"{where}: unread_samples has {index}; expected indices from 0 of the {len(marks)} samples"
            )
        marks[index] = _unread(cell.samples[index], f"{where}: unread_samples has {index}")
    return marks


def _unread(letter: str, where: str) -> str:
    if letter:
        raise InvalidInputError(f"{where}, but its letter is {letter!r}; expected no letter of what nobody could read")
    return UNREAD_MARK


def _mark(letter: str, question: Question, where: str) -> str:
    if letter and letter not in question.options:
        raise InvalidInputError(f"{where}: letter {letter!r} is not among {', '.join(question.letters)}")
    return letter or NULL_MARK
