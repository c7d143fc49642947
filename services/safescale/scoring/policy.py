"""Judges metric rows by a policy."""

import math
from collections.abc import Iterable

from safescale.core.metrics import METRIC_NAMES
from safescale.core.policy import Measurement, RequirementResult, evaluate, parse_policy
from safescale.core.records import Source
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.files import parse_yaml


def _number(row: pb.MetricRow, field: str) -> float:
    return float(getattr(row, field)) if row.HasField(field) else math.nan  # type: ignore[arg-type]


def evaluate_policy(text: str, rows: Iterable[pb.MetricRow]) -> pb.EvaluatePolicyResponse:
    """Judge metric rows by a policy given as YAML or JSON text.

    Raises:
        SpecError: the text is no policy; every defect is named.

    """
    data = parse_yaml(Source("policy", text.encode()))
    policy = parse_policy(data, "policy", METRIC_NAMES)
    measurements = [
        Measurement(
            row.model, row.condition, row.regime, row.metric,
            _number(row, "value"), _number(row, "ci_low"), _number(row, "ci_high"), row.n,
        )
        for row in rows
    ]  # fmt: skip
    results = [_message(result) for result in evaluate(policy, measurements)]
    return pb.EvaluatePolicyResponse(passed=all(result.passed for result in results), results=results)


def _message(result: RequirementResult) -> pb.RequirementResult:
    requirement = result.requirement
    message = pb.RequirementResult(
        metric=requirement.metric,
        model=result.model,
        condition=result.condition,
        regime=result.regime,
        direction=requirement.direction,
        limit=requirement.limit,
        bound=requirement.decisive,
        passed=result.passed,
        reason=result.reason,
    )
    if not math.isnan(result.value):
        message.value = result.value
    if not math.isnan(result.decisive):
        message.decisive = result.decisive
    return message
