"""Verdicts of policies in messages."""

from collections.abc import Iterable, Mapping

from safescale.core.decisions.planning import PlannedRequirement
from safescale.core.decisions.policy import Policy, Verdict
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

VERDICTS: Mapping[Verdict, "pb.PolicyVerdict.ValueType"] = {
    Verdict.PASS: pb.POLICY_VERDICT_PASS,
    Verdict.FAIL: pb.POLICY_VERDICT_FAIL,
    Verdict.INSUFFICIENT: pb.POLICY_VERDICT_INSUFFICIENT,
}
"""Verdicts and what they are in messages."""


def verdict_of(message: pb.EvaluatePolicyResponse | pb.RequirementResult) -> Verdict:
    """Return the verdict of a message; one of a version that knew two only says whether it passed."""
    found = next((verdict for verdict, stated in VERDICTS.items() if stated == message.verdict), None)
    if found is None:
        return Verdict.PASS if message.passed else Verdict.FAIL
    # Never more than either of the two says.
    return found if message.passed or found is not Verdict.PASS else Verdict.FAIL


def plan_message(policy: Policy, planned: Iterable[PlannedRequirement]) -> pb.PlanPolicyResponse:
    """Return what a policy can decide as a message."""
    rows = [
        pb.PlannedRequirement(
            metric=found.requirement.metric,
            condition=found.requirement.condition,
            regime=found.requirement.regime,
            model=found.requirement.model,
            direction=found.requirement.demand.direction,
            limit=found.requirement.demand.value,
            bound=found.requirement.demand.decisive,
            slice=found.requirement.slice,
            slice_value=found.slice_value,
            n=found.n,
            pivotal_events=found.pivotal_events,
            needed=found.needed,
            decidable=found.decidable,
            sentence=found.sentence,
        )
        for found in planned
    ]
    return pb.PlanPolicyResponse(requirements=rows, confidence=policy.confidence, policy_name=policy.name)
