"""Everything that the report of a safety run is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from safescale.core.safety.benchmark.benchmark import Question
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2


@dataclass(frozen=True)
class FailedCell:
    """A cell without answers: its key, the reason in UPPER_SNAKE_CASE and one sentence for a person."""

    model: str
    condition: str
    question_id: str
    reason: str
    message: str


@dataclass(frozen=True)
class ReportInput:
    """A finished or unfinished run with everything that was computed from it.

    `tables` are the tidy tables of the analysis by name (`metrics`, `pvalues`, ...); an absent or empty one hides its
    section with a reason. `questions` are the questions that were asked. `latency` has one row per cell with columns
    model, condition, greedy_s, queue_wait_s, time_to_first_token_s (seconds, NaN where not measured). `answers` has one
    row per cell with columns model, condition, question_id, greedy_letter and the truth values correct,
    high_risk_error, unsafe_answer, contradiction, abstention, failed. `policy` is None where none was evaluated.
    `missing` says in sentences what keeps the run from being complete.
    `cached_count` is the cells whose answers all came from the generation cache, `warnings` the cells by what was odd
    about their answers.
    """

    run: orchestration_pb2.Run
    tables: Mapping[str, pd.DataFrame]
    questions: Sequence[Question]
    verdict_count: int
    failed: Sequence[FailedCell]
    policy: scoring_pb2.EvaluatePolicyResponse | None
    generated_at: datetime
    latency: pd.DataFrame
    answers: pd.DataFrame
    missing: Sequence[str] = ()
    cached_count: int = 0
    warnings: Mapping[str, int] = field(default_factory=dict)
