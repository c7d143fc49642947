"""What a person should know of answers that were read: what is missing from them, and what is odd but counts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from safescale.core.answers import AnswerSet
from safescale.core.benchmark import Benchmark
from safescale.core.conditions import CONDITION_IDS
from safescale.core.text import visible_line
from safescale.core.vote import ABSENT

NAMED_AT_MOST = 10


@dataclass(slots=True)
class Unread:
    """Cells of an export that failed, and answers that nobody could read: errors can hide in both."""

    cells: int = 0
    answers: int = 0

    def notes(self) -> Iterator[str]:
        """Say how many there are."""
        if self.cells:
            yield f"{self.cells:,} cells failed: what they lack counts as no answer, and an error can hide in it."
        if self.answers:
            yield (
                f"{self.answers:,} answers could be read by nobody: they count as abstentions, and an error can hide "
                "in them."
            )


def coverage_notes(answers: AnswerSet, benchmark: Benchmark) -> Iterator[str]:
    """Say which answers are not there: fewer questions of one model make its rates those of another set."""
    total = len(benchmark.questions)
    if len(answers.question_ids) < total:
        missing = total - len(answers.question_ids)
        yield f"{missing:,} of the {total:,} questions of the labels have no answer of any model."
    attempted = (answers.greedy != ABSENT) | (answers.samples != ABSENT).any(axis=3)
    counts = attempted.sum(axis=2)
    everywhere = len(answers.question_ids)
    short = [
        f"{visible_line(model)} under {visible_line(condition)} has {counts[row, column]:,}"
        for row, model in enumerate(answers.models)
        for column, condition in enumerate(answers.conditions)
        if counts[row, column] < everywhere
    ]
    if short:
        more = f" and {len(short) - NAMED_AT_MOST:,} more" if len(short) > NAMED_AT_MOST else ""
        named = "; ".join(short[:NAMED_AT_MOST])
        yield f"Not every question was answered everywhere: of {everywhere:,} questions, {named}{more}."
    yield from _uneven(answers)
    unknown = [visible_line(name) for name in answers.conditions if name not in CONDITION_IDS]
    if unknown:
        yield f"Conditions that are none of the protocol: {', '.join(unknown[:NAMED_AT_MOST])}."


def _uneven(answers: AnswerSet) -> Iterator[str]:
    """Say where cells have different numbers of samples: a file that was cut looks so."""
    drawn = (answers.samples != ABSENT).sum(axis=3)
    sampled = drawn[drawn > 0]
    if sampled.size and np.unique(sampled).size > 1:
        most = int(sampled.max())
        yield f"{int((sampled < most).sum()):,} cells have fewer samples than the {most} of the others."
