"""Answers and labels as arrays: the input of every statistic.

Axes are always model, condition, question, sample: M, C, Q, K. Letters are int8: 0 = A … 25 = Z, -1 an abstention or a
failure (`vote.NULL`), -2 not attempted (`vote.ABSENT`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.vote import ABSENT
from safescale.core.safety.benchmark.benchmark import FLAGS, LETTERS, MAX_OPTIONS, Benchmark

_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """All answers of some models under some conditions, in one formulation ("letter" or "cloze").

    `reading` names the rules by which they were read; empty in the cloze formulation.

    `greedy` (M, C, Q) int8, `samples` (M, C, Q, K) int8 in the order they were drawn, `latency_s` (M, C, Q) float64
    seconds of the greedy call, NaN where there is none (not attempted, not timed, or failed: never 0). A cell was
    attempted if its greedy letter or any of its samples is not absent. `question_ids` are sorted as strings.
    `greedy_unread` (M, C, Q) and `samples_unread` (M, C, Q, K) bool tell the nulls that are no abstentions: answers
    that nobody could read, and failures. None where there are none.
    """

    models: tuple[str, ...]
    conditions: tuple[str, ...]
    question_ids: tuple[str, ...]
    greedy: npt.NDArray[np.int8]
    samples: npt.NDArray[np.int8]
    latency_s: npt.NDArray[np.float64]
    formulation: str = "letter"
    greedy_unread: npt.NDArray[np.bool_] | None = None
    samples_unread: npt.NDArray[np.bool_] | None = None
    reading: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.models), len(self.conditions), len(self.question_ids))
        if self.greedy.shape != shape or self.latency_s.shape != shape or self.samples.shape[:-1] != shape:
            raise ValueError(f"arrays do not have the shape {shape} of models, conditions and questions")
        if list(self.question_ids) != sorted(set(self.question_ids)):
            raise ValueError("question ids are not sorted or not unique")
        for letters, unread in ((self.greedy, self.greedy_unread), (self.samples, self.samples_unread)):
            if unread is not None and unread.shape != letters.shape:
                raise ValueError(f"what is unread does not have the shape {letters.shape} of the letters")

    def of_questions(self, kept: npt.NDArray[np.intp]) -> "AnswerSet":
        """Return the answers to some questions, given by their places."""
        return replace(
            self,
            question_ids=_picked(self.question_ids, kept),
            greedy=self.greedy[:, :, kept],
            samples=self.samples[:, :, kept],
            latency_s=self.latency_s[:, :, kept],
            greedy_unread=None if self.greedy_unread is None else self.greedy_unread[:, :, kept],
            samples_unread=None if self.samples_unread is None else self.samples_unread[:, :, kept],
        )

    @property
    def n_answers(self) -> int:
        """The number of answers held, greedy ones and samples."""
        return int((self.greedy != ABSENT).sum()) + int((self.samples != ABSENT).sum())


@dataclass(frozen=True, slots=True)
class LabelSet:
    """What is true of the questions of an answer set, in its order.

    `correct` (Q,) int8 letters, `n_options` (Q,) int8, the three flags (Q, 26) bool by letter. `labelled` is False
    where nothing is known about the options' safety: the flags are all False then, and no safety metric is computed.
    `clusters` (Q,) int64 are codes of what questions were drawn with; None where they are independent. `groups` are
    values of each question by the group's name, empty for a question outside of it.
    """

    question_ids: tuple[str, ...]
    correct: npt.NDArray[np.int8]
    n_options: npt.NDArray[np.int8]
    high_risk: npt.NDArray[np.bool_]
    unsafe: npt.NDArray[np.bool_]
    contradicts: npt.NDArray[np.bool_]
    subspecialty: tuple[str, ...]
    question_type: tuple[str, ...]
    labelled: bool = True
    clusters: npt.NDArray[np.int64] | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of_questions(self, kept: npt.NDArray[np.intp]) -> "LabelSet":
        """Return the labels of some questions, given by their places."""
        return LabelSet(
            question_ids=_picked(self.question_ids, kept),
            correct=self.correct[kept],
            n_options=self.n_options[kept],
            high_risk=self.high_risk[kept],
            unsafe=self.unsafe[kept],
            contradicts=self.contradicts[kept],
            subspecialty=_picked(self.subspecialty, kept),
            question_type=_picked(self.question_type, kept),
            labelled=self.labelled,
            clusters=None if self.clusters is None else self.clusters[kept],
            groups={name: _picked(values, kept) for name, values in self.groups.items()},
        )


def _picked(values: tuple[str, ...], kept: npt.NDArray[np.intp]) -> tuple[str, ...]:
    return tuple(values[place] for place in kept.tolist())


def letter_code(letter: str | None) -> int:
    """Return the code of a letter in arrays: 0 for A … 25 for Z, -1 for None.

    Raises ValueError for anything else.
    """
    return -1 if letter is None else LETTERS.index(letter)


def code_letter(code: int) -> str:
    """Return the letter of a code; empty for -1 and -2."""
    return LETTERS[code] if code >= 0 else ""


def label_set(benchmark: Benchmark, question_ids: Sequence[str]) -> LabelSet:
    """Return the labels of those questions, in that order.

    Raises InvalidInputError for questions that the benchmark does not have.
    """
    known = {question.question_id: question for question in benchmark.questions}
    missing = [identifier for identifier in question_ids if identifier not in known]
    if missing:
        more = f" and {len(missing) - _NAMED_AT_MOST} more" if len(missing) > _NAMED_AT_MOST else ""
        raise InvalidInputError(
            f"{benchmark.name}: no labels for the answered questions {', '.join(missing[:_NAMED_AT_MOST])}{more}; "
            "expected one labelled question for each"
        )
    questions = [known[identifier] for identifier in question_ids]
    flags = np.zeros((len(FLAGS), len(questions), MAX_OPTIONS), dtype=np.bool_)
    for row, question in enumerate(questions):
        for letter, labels in question.labels.items():
            flags[:, row, LETTERS.index(letter)] = [getattr(labels, flag) for flag in FLAGS]
    return LabelSet(
        question_ids=tuple(question_ids),
        correct=np.array([letter_code(question.correct_answer) for question in questions], dtype=np.int8),
        n_options=np.array([len(question.options) for question in questions], dtype=np.int8),
        high_risk=flags[0],
        unsafe=flags[1],
        contradicts=flags[2],
        subspecialty=tuple(question.subspecialty for question in questions),
        question_type=tuple(question.question_type for question in questions),
        labelled=benchmark.labelled,
        clusters=_clusters([question.cluster for question in questions]),
        groups={
            name: tuple(question.groups.get(name, "") for question in questions)
            for name in sorted({name for question in questions for name in question.groups})
        },
    )


def _clusters(names: Sequence[str]) -> npt.NDArray[np.int64] | None:
    """Return codes of clusters by question, -1 for a question without one; None where no question has one."""
    codes = {name: code for code, name in enumerate(sorted(set(names) - {""}))}
    return np.array([codes.get(name, -1) for name in names], dtype=np.int64) if codes else None
