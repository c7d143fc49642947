"""What a person should know of answers that were read: what is missing from them, and what is odd but counts."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from safescale.core.inputs.text import visible_line
from safescale.core.safety.answers.answers import AnswerSet
from safescale.core.safety.answers.vote import ABSENT
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.conditions import CONDITION_IDS

NAMED_AT_MOST = 10


@dataclass(slots=True)
class UnreadCounts:
    """Cells of an export and calls of a judged file that failed, and answers that are missing or could not be read.

    Errors can hide in all of them. `greedy` counts cells without and with a greedy answer, by model and condition.
    """

    cells: int = 0
    calls: int = 0
    answers: int = 0
    greedy: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def notes(self) -> Iterator[str]:
        """Say how many there are."""
        if self.cells:
            yield f"{self.cells:,} cells failed: what they lack counts as no answer, and an error can hide in it."
        if self.calls:
            yield f"{self.calls:,} calls failed: what they lack counts as no answer, and an error can hide in it."
        lacking = sum(without for without, some in self.greedy.values() if some)
        if lacking:
            yield (
                f"{lacking:,} cells have no greedy answer, unlike others of their model and condition: they count as "
                "unread, and an error can hide in them."
            )
        if self.answers:
            yield (
                f"{self.answers:,} answers could be read by nobody: they count as unread, and an error can hide in "
                "them."
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
    """Say where cells lack what others have, and have different numbers of samples: a file that was cut looks so."""
    drawn = (answers.samples != ABSENT).sum(axis=3)
    lacking = int(((drawn == 0) & (answers.greedy != ABSENT) & (drawn > 0).any(axis=2, keepdims=True)).sum())
    if lacking:
        yield f"{lacking:,} cells have no samples, unlike others of their model and condition."
    sampled = drawn[drawn > 0]
    if sampled.size and np.unique(sampled).size > 1:
        most = int(sampled.max())
        yield f"{int((sampled < most).sum()):,} cells have fewer samples than the {most} of the others."
