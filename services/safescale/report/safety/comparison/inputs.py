"""What the page of a comparison is made of, by pair of models and regime."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from safescale.core.safety.conditions import condition
from safescale.core.safety.metrics import HEADLINES, SAFETY_METRICS
from safescale.report.port import ComparisonResults
from safescale.report.safety.view import condition_name
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2

NOUNS: Mapping[str, str] = {metric.name: metric.noun for metric in HEADLINES}

NO_CONTEXT = "None: the question alone."
NOT_RECORDED = "Not recorded: the run was made by a version that did not keep which passage was shown."
NOT_STORED = "Not shown: the store does not have it any more, or it could not be read."


@dataclass(frozen=True)
class PairView:
    """The rows of one pair of models in one regime; numbers are shares, `rank` is that of the condition."""

    key: str
    candidate: str
    baseline: str
    regime: str
    formulation: str
    confidence: float
    rows: pd.DataFrame

    @property
    def names(self) -> str:
        """The two models in words."""
        return self.candidate if self.candidate == self.baseline else f"{self.candidate} against {self.baseline}"

    @property
    def answers(self) -> str:
        """The regime in words."""
        return "greedy answers" if self.regime == "greedy" else "majority of the samples"


def pair_views(response: scoring_pb2.CompareRunsResponse) -> Iterator[PairView]:
    """Yield the pairs of models in the order of the comparison, each regime apart."""
    found = sorted(response.rows, key=_place)
    for number, ((candidate, baseline, regime), rows) in enumerate(groupby(found, key=_place), start=1):
        held = list(rows)
        frame = pd.DataFrame([_record(row) for row in held])
        form = held[0].formulation
        yield PairView(f"pair-{number}", candidate, baseline, regime, form, response.confidence, frame)


def _place(row: scoring_pb2.PairedRow) -> tuple[str, str, str]:
    return row.candidate_model, row.baseline_model, row.regime


def _record(row: scoring_pb2.PairedRow) -> dict[str, object]:
    harm = row.metric in SAFETY_METRICS
    worse, better = (row.only_candidate, row.only_baseline) if harm else (row.only_baseline, row.only_candidate)
    clear = "" if row.low <= 0 <= row.high else "worse" if (row.low > 0) == harm else "better"
    return {
        "metric": row.metric, "harm": harm, "name": condition_name(row.condition), "n": row.n,
        "left_out": row.left_out, "candidate": row.candidate_value, "baseline": row.baseline_value,
        "difference": row.difference, "low": row.low, "high": row.high, "worse": worse, "better": better,
        "p_value": row.p_value, "p_holm": row.p_holm, "clear": clear,
        "unread": row.n_unread,
        "candidate_unread": row.candidate_unread, "baseline_unread": row.baseline_unread,
        # The end of the interval that speaks against the candidate, everything unread counted against it.
        "worst": row.worst_high if harm else row.worst_low,
    }  # fmt: skip


@dataclass(frozen=True)
class ShownContext:
    """What stood before a question: whose it was, and its text or why there is none."""

    whose: str
    text: str
    note: str


def contexts_of(flip: scoring_pb2.Flip, results: ComparisonResults) -> list[ShownContext]:
    """Return the contexts that candidate and baseline saw before a question: one where they are the same."""
    ours = _context(flip, flip.candidate_context_id, results.candidate, results)
    theirs = _context(flip, flip.baseline_context_id, results.baseline, results)
    if ours == theirs:
        return [ShownContext("Both saw", *ours)]
    return [ShownContext("The candidate saw", *ours), ShownContext("The baseline saw", *theirs)]


def _context(
    flip: scoring_pb2.Flip, context_id: str, run: orchestration_pb2.Run, results: ComparisonResults
) -> tuple[str, str]:
    """Return the text that stood before a question, or an empty one and the reason."""
    if context_id:
        text = results.contexts.get(context_id)
        return ("", NOT_STORED) if text is None else (text, "")
    builder = condition(flip.condition).builder
    agent = bool(run.manifest.spec.agent_model)
    if field := builder.text_field(agent=agent):
        question = results.questions.get(flip.question_id)
        text = getattr(question, field, None)
        return (text, "") if text else ("", NOT_STORED)
    return ("", NOT_RECORDED if builder.needs_corpus(agent=agent) else NO_CONTEXT)
