"""Metric rows of safety runs, and of letters that callers bring."""

import math
from collections.abc import Iterable, Sequence

from threadpoolctl import threadpool_limits

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answer_cells import NULL_MARK
from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.answers.assemble import CellAnswers, answer_sets
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.core.safety.tables.analysis import metrics_of
from safescale.core.tables import Table
from safescale.rpc.checked import checked_name
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


def metric_rows(cells: Iterable[CellAnswers], benchmark: Benchmark) -> list[pb.MetricRow]:
    """Return metric rows of cells; formulations are measured apart."""
    rows: list[pb.MetricRow] = []
    # The products are short: BLAS threads would wait for each other most of the time.
    with threadpool_limits(limits=1, user_api="blas"):
        for answers in answer_sets(cells).values():
            rows.extend(_messages(metrics_of(answers, label_set(benchmark, answers.question_ids))))
    return rows


def _messages(table: Table) -> Iterable[pb.MetricRow]:
    for row in table.rows():
        message = pb.MetricRow(
            **{name: row[name] for name in ("model", "condition", "regime", "metric", "n", "n_null")}
        )
        for name in ("value", "boot_mean", "boot_sd", "ci_low", "ci_high"):
            if not math.isnan(row[name]):
                setattr(message, name, row[name])
        yield message


def metrics_of_letters(
    questions: Sequence[Question], cells: Sequence[pb.CellLetters], formulation: str
) -> list[pb.MetricRow]:
    """Return metric rows of letters and labels that a caller brings.

    Raises:
        InvalidInputError: a cell without its question, a letter that is not an option, or two entries of one cell.

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
        marks = [_mark(letter, question, where) for letter in cell.samples]
        greedy = _mark(cell.greedy, question, where)
        latency = cell.latency_s if cell.HasField("latency_s") else None
        if latency is not None and not 0 <= latency < math.inf:
            raise InvalidInputError(f"{where}: latency_s is {latency:g}; expected seconds of at least 0")
        found.append(CellAnswers(*key, formulation, greedy, "".join(marks), latency))
    benchmark = Benchmark("request", tuple(questions))
    return metric_rows(found, benchmark)


def _mark(letter: str, question: Question, where: str) -> str:
    if letter and letter not in question.options:
        raise InvalidInputError(f"{where}: letter {letter!r} is not among {', '.join(question.letters)}")
    return letter or NULL_MARK
