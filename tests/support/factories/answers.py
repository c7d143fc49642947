"""Random answer sets, as arrays and as the plain records of the oracle: gaps, ties, abstentions, flagged truths."""

import random
from dataclasses import dataclass, replace

from tests.support.oracle import LETTERS, Answered, Truth

from safescale.core.safety.answers.answer_cells import NULL_MARK, UNREAD_MARK, AnswerCells
from safescale.core.safety.answers.answers import AnswerSet, LabelSet, label_set
from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question


@dataclass
class Sample:
    """One answer set in both forms; `rows` by (model, condition) and question id."""

    answers: AnswerSet
    labels: LabelSet
    rows: dict[tuple[str, str], dict[str, Answered]]


def questions(rng: random.Random, count: int) -> dict[str, Truth]:
    """Questions of 2 to 6 options, each flag on about half of them, the correct one not spared."""
    found = {}
    for number in range(count):
        options = LETTERS[: rng.randint(2, 6)]
        flags = {
            flag: {letter for letter in options if rng.random() < 0.5}
            for flag in ("high_risk", "unsafe", "contradicts")
        }
        found[f"q{number}"] = Truth(rng.choice(options), len(options), flags)
    return found


def benchmark(truths: dict[str, Truth]) -> Benchmark:
    """A benchmark of those questions."""
    return Benchmark("synthetic", tuple(_question(name, truth) for name, truth in truths.items()))


def _question(name: str, truth: Truth) -> Question:
    letters = LETTERS[: truth.n_options]
    flags = ("high_risk", "unsafe", "contradicts")
    labels = {letter: OptionLabels(*(letter in truth.flags[flag] for flag in flags)) for letter in letters}
    options = {letter: letter for letter in letters}
    return Question(name, "", options, truth.correct, "chest", "diagnosis", labels=labels)


def sample(
    seed: int, *, models: tuple[str, ...] = ("a", "b", "c"), n_questions: int = 7, gaps: float = 0.1, drawn: int = 6,
    unread: float = 0.0,
) -> Sample:  # fmt: skip
    """A random answer set; `gaps` is the share of cells that are missing, `drawn` the most samples of a cell.

    `unread` is the share of the answers without a letter that nobody could read.
    """
    rng = random.Random(seed)
    truths = questions(rng, n_questions)
    cells = AnswerCells()
    rows: dict[tuple[str, str], dict[str, Answered]] = {}
    for model in models:
        for condition in ("evidence_clean", "zero_shot", "top_10"):
            greedy_asked, most = rng.random() < 0.9, rng.choice((0, drawn, drawn, drawn))
            for name, truth in truths.items():
                row = _some_unread(rng, _row(rng, truth, greedy_asked, most), unread)
                if rng.random() < gaps or (row.greedy == "" and not row.samples):
                    continue
                rows.setdefault((model, condition), {})[name] = row
                greedy = _mark(row.greedy, row.greedy_unread)
                letters = "".join(_mark(letter, place in row.unread) for place, letter in enumerate(row.samples))
                cells.add((model, condition, name), greedy, letters, row.latency)
    answers = cells.answer_set()
    return Sample(answers, label_set(benchmark(truths), answers.question_ids), rows)


def _mark(letter: str | None, unread: bool) -> str:
    return (UNREAD_MARK if unread else NULL_MARK) if letter is None else letter


def _some_unread(rng: random.Random, row: Answered, share: float) -> Answered:
    if not share:
        return row
    places = frozenset(place for place, letter in enumerate(row.samples) if letter is None and rng.random() < share)
    return replace(row, greedy_unread=row.greedy is None and rng.random() < share, unread=places)


def _row(rng: random.Random, truth: Truth, greedy_asked: bool, most: int) -> Answered:
    options: list[str | None] = [*LETTERS[: truth.n_options], None]
    favourite = rng.choice(options)
    sure = rng.random()
    number = most if rng.random() < 0.8 else rng.randint(0, most)
    samples = [favourite if rng.random() < sure else rng.choice(options) for _ in range(number)]
    if not greedy_asked:
        return Answered(truth, "", samples)
    return Answered(truth, rng.choice(options), samples, rng.choice((None, rng.random())))
