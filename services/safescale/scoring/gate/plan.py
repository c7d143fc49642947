"""What a policy can decide by a number of questions, as a message."""

from safescale.core.decisions.planning import Design, Sample, plan_policy
from safescale.core.decisions.policy import Policy
from safescale.core.errors import InvalidInputError, LimitExceededError
from safescale.core.safety.metrics import METRICS
from safescale.rpc.checked import checked_name
from safescale.rpc.policies import plan_message
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

MAX_QUESTIONS = 1_000_000
MAX_SLICES = 10_000
MAX_PLANNED = 20_000

SHARES = frozenset(metric.name for metric in METRICS if metric.share)


def planned(policy: Policy, request: pb.PlanPolicyRequest) -> pb.PlanPolicyResponse:
    """Return what a policy can decide by the questions of a request.

    Raises:
        InvalidInputError: there are no questions, or they are not those of one run.
        LimitExceededError: there are more than can be planned.

    """
    design = _design(request)
    sliced = sum(len((design.slices or {}).get(requirement.slice, ())) for requirement in policy.requirements)
    if sliced > MAX_PLANNED:
        raise LimitExceededError(f"the policy gives more than {MAX_PLANNED:,} rows; expected fewer requirements")
    return plan_message(policy, plan_policy(policy, design))


def _design(request: pb.PlanPolicyRequest) -> Design:
    if not request.question_count:
        raise InvalidInputError("question_count is 0; expected the questions that would be asked")
    if request.question_count > MAX_QUESTIONS:
        raise LimitExceededError(f"question_count is {request.question_count:,}; the limit is {MAX_QUESTIONS:,}")
    if len(request.slices) > MAX_SLICES:
        raise LimitExceededError(f"{len(request.slices):,} slices are over the limit of {MAX_SLICES:,}")
    slices: dict[str, dict[str, Sample]] = {}
    for number, size in enumerate(request.slices):
        place = f"slices[{number}]"
        checked_name(f"{place}.slice", size.slice)
        checked_name(f"{place}.slice_value", size.slice_value)
        sample = _sample(place, size.question_count, size.cluster_count)
        if sample.questions > request.question_count:
            raise InvalidInputError(
                f"{place}.question_count is {sample.questions:,}; expected at most the "
                f"{request.question_count:,} in all"
            )
        if slices.setdefault(size.slice, {}).setdefault(size.slice_value, sample) is not sample:
            raise InvalidInputError(f"{place} is {size.slice} {size.slice_value} again; expected each value once")
    whole = _sample("the request", request.question_count, request.cluster_count)
    return Design(whole, SHARES, request.models, request.conditions, request.regimes, slices or None)


def _sample(place: str, questions: int, clusters: int) -> Sample:
    if clusters > questions:
        raise InvalidInputError(f"{place}: cluster_count is {clusters:,}; expected at most the {questions:,} questions")
    return Sample(questions, clusters)
