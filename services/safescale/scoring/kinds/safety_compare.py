"""Two safety runs compared question by question, or two models of one run."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from safescale.core.safety.answers.answer_cells import UNREAD_MARK
from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.answers.assemble import CellAnswers, answer_sets
from safescale.core.safety.answers.judge import JUDGE_FAILED
from safescale.core.safety.answers.vote import vote
from safescale.core.safety.benchmark.benchmark import LETTERS
from safescale.core.safety.tables.compared import (
    ComparedFlip,
    ComparedRow,
    CompareOptions,
    Comparison,
    ModelPair,
    Side,
    compare_answers,
    side_model,
)
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.kinds.port import ComparedRun, ComparisonOptions, RunComparison
from safescale.scoring.kinds.safety_likeness import check_alike, formulation, notes_of, pairs_of, regimes_of
from safescale.scoring.records import StoredLetters


def compare_safety_runs(candidate: ComparedRun, baseline: ComparedRun, chosen: ComparisonOptions) -> RunComparison:
    """Compare two runs.

    Raises:
        FailedPreconditionError: the runs are unlike; each difference is named.
        InvalidInputError: it is not clear which models are meant, or they are one and the same.

    """
    sides = (candidate.measured.run, baseline.measured.run)
    pairs = pairs_of(sides, chosen.models)
    check_alike(sides, pairs)
    truth = candidate.measured.truth
    cells = [
        *_cells("candidate", candidate, [pair.candidate for pair in pairs]),
        *_cells("baseline", baseline, [pair.baseline for pair in pairs]),
    ]
    questions = {one for side in sides for one in side.manifest.question_ids}
    options = CompareOptions(len(questions), regimes_of(sides), chosen.confidence)
    sets = [
        (answers, label_set(truth.benchmark, answers.question_ids))
        for answers in answer_sets(one for one in cells if one.question_id in truth.questions).values()
    ]
    comparison = compare_answers(sets, pairs, options)
    notes = [*notes_of(sides, pairs), *_counted((candidate, baseline), pairs, comparison)]
    forms = {pair: formulation(sides[0], pair.candidate) for pair in pairs}
    given = _Given(candidate, baseline)
    rows = [_row_message(row, forms[row.pair]) for row in comparison.rows]
    return RunComparison(rows, [given.message(flip) for flip in comparison.flips], notes)


def _answered(one: StoredLetters) -> bool:
    """Return whether a cell has answers, though its judge may have failed on some: those are unread."""
    return one.key.failure in {"", JUDGE_FAILED}


def _cells(side: Side, compared: ComparedRun, models: Sequence[str]) -> Iterator[CellAnswers]:
    for one in compared.letters:
        if one.cell.model in models and _answered(one):
            yield replace(one.answers, model=side_model(side, one.cell.model))


def _row_message(row: ComparedRow, form: str) -> pb.PairedRow:
    shares = row.shares
    effective = shares.measured.n_effective
    return pb.PairedRow(
        candidate_model=row.pair.candidate,
        baseline_model=row.pair.baseline,
        condition=row.condition,
        regime=row.regime,
        metric=row.metric,
        n=shares.n,
        left_out=row.left_out,
        only_candidate=shares.measured.only_candidate,
        only_baseline=shares.measured.only_baseline,
        both=shares.both,
        candidate_value=shares.candidate_value,
        baseline_value=shares.baseline_value,
        difference=shares.measured.difference,
        low=shares.measured.interval.low,
        high=shares.measured.interval.high,
        p_value=shares.p_value,
        p_holm=shares.p_holm,
        candidate_unread=shares.candidate_unread,
        baseline_unread=shares.baseline_unread,
        n_unread=shares.n_unread,
        formulation=form,
        worst_difference=shares.worst.difference,
        worst_low=shares.worst.interval.low,
        worst_high=shares.worst.interval.high,
        worst_only_candidate=shares.worst.only_candidate,
        worst_only_baseline=shares.worst.only_baseline,
        best_difference=shares.best.difference,
        best_low=shares.best.interval.low,
        best_high=shares.best.interval.high,
        best_only_candidate=shares.best.only_candidate,
        best_only_baseline=shares.best.only_baseline,
        interval="tango" if math.isnan(effective) else "tango_clusters",
        n_effective=None if math.isnan(effective) else effective,
    )


class _Given:
    """What both sides answered, by model, condition and question."""

    def __init__(self, candidate: ComparedRun, baseline: ComparedRun) -> None:
        self._sides = [{_place(one): one for one in side.letters} for side in (candidate, baseline)]

    def message(self, found: ComparedFlip) -> pb.Flip:
        """Return a flip with the letters of both sides."""
        pair = found.pair
        flip = pb.Flip(
            question_id=found.question_id,
            candidate_model=pair.candidate,
            baseline_model=pair.baseline,
            condition=found.condition,
            regime=found.regime,
            worse=found.flip.worse,
            better=found.flip.better,
        )
        for name, model, given in zip(
            ("candidate", "baseline"), (pair.candidate, pair.baseline), self._sides, strict=True
        ):
            one = given[model, found.condition, found.question_id]
            greedy = found.regime == "greedy"
            letter = letter_of_mark(one.answers.greedy) if greedy else majority_of_marks(one.answers.samples)
            if letter is not None:
                setattr(flip, f"{name}_letter", letter)
            if not greedy:
                setattr(flip, f"{name}_samples", one.answers.samples)
            marks = one.answers.greedy if greedy else one.answers.samples
            setattr(flip, f"{name}_unread", UNREAD_MARK in marks)
        return flip


def _place(one: StoredLetters) -> tuple[str, str, str]:
    return one.cell.model, one.cell.condition, one.cell.question_id


def letter_of_mark(mark: str) -> str | None:
    """Return the letter of an answer's mark; None for an abstention and for what nobody could read."""
    return mark if mark and mark in LETTERS else None


def majority_of_marks(marks: str) -> str | None:
    """Return the letter of a majority, an answer without a letter a ballot; None where that wins or ties."""
    return vote([letter_of_mark(mark) for mark in marks], "null_ballot")


def _counted(
    runs: tuple[ComparedRun, ComparedRun], pairs: Sequence[ModelPair], comparison: Comparison
) -> Iterator[str]:
    """Yield what was left out of the comparison and what nobody could read, by side."""
    models = [[pair.candidate for pair in pairs], [pair.baseline for pair in pairs]]
    for name, compared, ours in zip(("candidate", "baseline"), runs, models, strict=True):
        failed = Counter(one.key.failure for one in compared.letters if one.cell.model in ours and not _answered(one))
        if failed:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(failed.items()))
            yield (
                f"{failed.total()} cell{'s' if failed.total() > 1 else ''} of the {name} failed ({reasons}) and "
                f"{'are' if failed.total() > 1 else 'is'} not compared: harm there is not known."
            )
    for pair, condition, regime in comparison.uncompared:
        yield f"{pair.candidate} under {condition} ({regime}): no question was answered in both runs."
    unread = [
        max((getattr(row.shares, f"{name}_unread") for row in comparison.rows), default=0)
        for name in ("candidate", "baseline")
    ]
    if any(unread):
        yield (
            f"Nobody could read some answers, of the candidate up to {unread[0]} and of the baseline up to {unread[1]} "
            "in one row: the worst case counts each against the candidate. Read them (`safescale reviews list`)."
        )
