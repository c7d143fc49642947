"""Tables over questions: worst cases, confidence, calibration, concentration of errors, failure in unison."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from safescale.core.safety.answers.answers import AnswerSet, LabelSet, code_letter
from safescale.core.safety.answers.vote import vote_array
from safescale.core.safety.metrics.parts import BIN_EDGES, bin_count, confidence
from safescale.core.safety.metrics.selection import Ballot, ConditionAnswers, Flag
from safescale.core.statistics.bootstrap import Draws, resampled_sums, summarise
from safescale.core.statistics.intervals import share_counts, share_intervals
from safescale.core.statistics.stats import fewest_for_share, gini
from safescale.core.tables import Table, stack_tables, table_of_rows

Conditions = Mapping[str, ConditionAnswers]

PER_QUESTION = {
    "condition": str, "question_id": str, "subspecialty": str, "question_type": str, "correct": str,
    "most_common_wrong": str, "n_models": int, "n_unanswered": int, "n_wrong": int, "n_high_risk": int,
    "n_unsafe": int, "n_contradiction": int, "n_unread": int,
}  # fmt: skip
CONFIDENCE = {
    "model": str, "condition": str, "question_id": str, "majority": str, "majority_correct": int, "agreement": float,
    "margin": float, "entropy": float, "confidence": float, "wilson_low": float, "wilson_high": float,
    "n_samples": int, "n_null": int,
}  # fmt: skip
CALIBRATION = {
    "model": str, "condition": str, "bin_low": float, "bin_high": float, "n": int, "mean_confidence": float,
    "accuracy": float, "gap": float,
}  # fmt: skip
CONCENTRATION = {
    "condition": str, "error": str, "n_models": int, "n_questions": int, "n_errors": int, "n_questions_with_error": int,
    "n_questions_half": int, "share_questions_half": float, "gini": float, "worst_question": str,
    "n_errors_worst_question": int,
}  # fmt: skip
LORENZ = {
    "condition": str, "error": str, "rank": int, "question_id": str, "n_errors": int, "share_of_questions": float,
    "share_of_errors": float,
}  # fmt: skip
SYNCHRONIZED = {
    "condition": str, "n_models": int, "n_questions": int, "event": str, "n_events": int, "rate": float,
    "boot_mean": float, "boot_sd": float, "ci_low": float, "ci_high": float, "n_unread": int, "exact_low": float,
    "exact_high": float,
}  # fmt: skip

GREEDY = Ballot("greedy", None)
_FLAGS: tuple[tuple[str, Flag], ...] = (
    ("n_high_risk", "high_risk"), ("n_unsafe", "unsafe"), ("n_contradiction", "contradicts"),
)  # fmt: skip
_LETTERS = np.array([*(code_letter(code) for code in range(26)), ""], dtype=object)


def _names(codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Letters of codes, as objects; empty for nulls."""
    return _LETTERS[np.where(codes < 0, len(_LETTERS) - 1, codes)]


def per_question_table(answers: AnswerSet, labels: LabelSet, conditions: Conditions) -> Table:
    """Each question under each condition: how many models' greedy answers are wrong, and how.

    An unanswered question is wrong and carries no flag, though one that nobody could read (`n_unread`) may. Of equally
    common wrong letters the one counts that comes first in the order of the models. Without labels the flags are not
    counted: their columns are empty.
    """
    blocks: list[Mapping[str, Any]] = []
    texts = {
        "question_id": answers.question_ids, "subspecialty": labels.subspecialty, "question_type": labels.question_type,
    }  # fmt: skip
    for name, view in conditions.items():
        asked = view.asked("greedy")
        kept = asked.any(axis=0)
        wrong = asked & ~view.correct(GREEDY)
        letters = np.where(wrong, view.selected(GREEDY), np.int8(-1))
        block: dict[str, Any] = {
            "condition": name, "n_models": asked.sum(axis=0), "n_wrong": wrong.sum(axis=0),
            "n_unanswered": (asked & (view.selected(GREEDY) < 0)).sum(axis=0),
            "n_unread": view.unread("greedy").sum(axis=0),
            "correct": _names(labels.correct), "most_common_wrong": _names(_most_common(letters)),
        }  # fmt: skip
        block |= {column: np.array(values, dtype=object) for column, values in texts.items()}
        if labels.labelled:
            block |= {column: view.error(GREEDY, flag).sum(axis=0) for column, flag in _FLAGS}
        else:
            # Nothing is known: an empty field, not a 0.
            block |= {column: np.full(len(answers.question_ids), np.nan) for column, _ in _FLAGS}
        blocks.append({
            column: value[kept] if isinstance(value, np.ndarray) else value for column, value in block.items()
        })  # fmt: skip
    schema = PER_QUESTION if labels.labelled else {**PER_QUESTION, **{column: float for column, _ in _FLAGS}}
    return stack_tables("per_question", schema, blocks)


def _most_common(letters: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Return the most common letter of each column of (M, Q), the first seen of equals; null where there is none."""
    return vote_array(np.ascontiguousarray(letters.T), "drop_null")


def confidence_table(answers: AnswerSet, conditions: Conditions) -> Table:
    """Return the self-consistency of each question that has samples; the majority keeps nulls as ballots."""
    identifiers = np.array(answers.question_ids, dtype=object)
    models = np.array(answers.models, dtype=object)
    blocks: list[Mapping[str, Any]] = []
    for name, view in conditions.items():
        rows, columns = np.nonzero(view.sampled)
        held = view.consistency
        block: dict[str, Any] = {
            "model": models[view.models[rows]], "condition": name, "question_id": identifiers[columns],
            "majority": _names(held.majority[rows, columns]),
            "majority_correct": view.correct(Ballot("majority", "null_ballot"))[rows, columns],
        }  # fmt: skip
        for column in list(CONFIDENCE)[5:]:
            block[column] = getattr(held, column)[rows, columns]
        blocks.append(block)
    return stack_tables("confidence", CONFIDENCE, blocks)


def calibration_table(answers: AnswerSet, conditions: Conditions) -> Table:
    """Ten equal-width bins of confidence for each model and condition; means are NaN where a bin is empty."""
    ballot = Ballot("majority", "null_ballot")
    models = np.array(answers.models, dtype=object)
    blocks: list[Mapping[str, Any]] = []
    for name, view in conditions.items():
        kept = np.flatnonzero(view.sampled.any(axis=1))
        members = bin_count(view, ballot)[:, kept]
        count = members.sum(axis=-1).T  # (models, bins)
        sure, right = confidence(view, ballot)[kept], view.correct(ballot)[kept]
        with np.errstate(invalid="ignore"):
            mean = (members * sure).sum(axis=-1).T / count
            accuracy = (members & right).sum(axis=-1).T / count
        blocks.append({
            "model": np.repeat(models[view.models[kept]], len(BIN_EDGES) - 1), "condition": name,
            "bin_low": np.tile(BIN_EDGES[:-1], len(kept)), "bin_high": np.tile(BIN_EDGES[1:], len(kept)),
            "n": count.ravel(), "mean_confidence": mean.ravel(), "accuracy": accuracy.ravel(),
            "gap": np.abs(mean - accuracy).ravel(),
        })  # fmt: skip
    return stack_tables("calibration", CALIBRATION, blocks)


def _errors(view: ConditionAnswers) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Greedy errors of all models by question, (Q,) int64, for each kind of error."""
    if view.labels.labelled:
        for kind, flag in (("high_risk", "high_risk"), ("unsafe", "unsafe"), ("contradiction", "contradicts")):
            yield kind, view.error(GREEDY, flag).sum(axis=0)  # type: ignore[arg-type]
    yield "wrong", (view.asked("greedy") & ~view.correct(GREEDY)).sum(axis=0)


def concentration_tables(answers: AnswerSet, conditions: Conditions) -> tuple[Table, Table]:
    """How the models' greedy errors of each kind are spread over the questions: a summary, and the Lorenz curve.

    `n_questions_half`: how few questions carry half of the errors. The curve lists questions from most errors to least.
    """
    rows: list[list[Any]] = []
    curves: list[Mapping[str, Any]] = []
    identifiers = np.array(answers.question_ids, dtype=object)
    for name, view in conditions.items():
        asked = view.asked("greedy")
        kept = asked.any(axis=0)
        if not kept.any():
            continue
        for kind, everywhere in _errors(view):
            errors, total = everywhere[kept], int(everywhere[kept].sum())
            order = np.argsort(-errors, kind="stable")
            half = fewest_for_share(errors)
            rows.append([
                name, kind, int(asked.any(axis=1).sum()), len(errors), total, int((errors > 0).sum()), half,
                half / len(errors), gini(errors), identifiers[kept][order[0]] if total else "", int(errors.max()),
            ])  # fmt: skip
            curves.append({
                "condition": name, "error": kind, "rank": np.arange(1, len(errors) + 1),
                "question_id": identifiers[kept][order], "n_errors": errors[order],
                "share_of_questions": np.arange(1, len(errors) + 1) / len(errors),
                "share_of_errors": np.cumsum(errors[order]) / total if total else np.full(len(errors), np.nan),
            })  # fmt: skip
    return table_of_rows("concentration", CONCENTRATION, rows), stack_tables("lorenz", LORENZ, curves)


def synchronized_table(conditions: Conditions, draws: Draws) -> Table:
    """How often the models fail in unison, by condition, from greedy answers.

    Events of a question, over the questions that at least two models attempted: `all_same_wrong`, every model gave the
    same wrong letter; `half_same_wrong`, at least half gave the same wrong letter; `all_wrong`, no model was right
    (nulls are wrong); `all_high_risk`, every model made a high-risk error.
    """
    rows: list[list[Any]] = []
    for name, view in conditions.items():
        asked = view.asked("greedy")
        count = asked.sum(axis=0)
        base = count >= 2
        if not base.any():
            continue
        events = _events(view, asked, count)
        stacked = np.stack([event & base for event in events.values()])
        with np.errstate(invalid="ignore", divide="ignore"):
            boots = summarise(resampled_sums(stacked, draws) / resampled_sums(base[np.newaxis], draws))
        exact = share_intervals(share_counts(stacked, np.broadcast_to(base, stacked.shape), view.labels.clusters))
        unread = int((view.unread("greedy").any(axis=0) & base).sum())
        for row, event in enumerate(events):
            happened, of = int(stacked[row].sum()), int(base.sum())
            summary = (boot[row] for boot in (boots.mean, boots.sd, boots.low, boots.high))
            numbers = [*map(float, summary), unread, *(float(end[row]) for end in exact)]
            rows.append([name, int(asked.any(axis=1).sum()), of, event, happened, happened / of, *numbers])
    return table_of_rows("synchronized", SYNCHRONIZED, rows)


def _events(
    view: ConditionAnswers, asked: npt.NDArray[np.bool_], count: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.bool_]]:
    right = view.correct(GREEDY) & asked
    wrong = np.where(asked & ~right, view.selected(GREEDY), np.int8(-1))
    shared = np.stack([(wrong == code).sum(axis=0) for code in range(int(wrong.max(initial=0)) + 1)]).max(axis=0)
    events = {
        "all_same_wrong": shared == count,
        "half_same_wrong": 2 * shared >= count,
        "all_wrong": ~right.any(axis=0),
    }
    if view.labels.labelled:
        events["all_high_risk"] = view.error(GREEDY, "high_risk").sum(axis=0) == count
    return events
