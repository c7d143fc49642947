"""What requirements against a baseline are judged by: the baseline, named or found, and the run paired with it."""

import math
from dataclasses import dataclass, replace

from safescale.core.decisions.compare import Discordance
from safescale.core.decisions.evaluation import NONE_COMPARED, Comparisons
from safescale.core.decisions.margins import PairedMeasurement
from safescale.core.decisions.policy import Margin, Policy
from safescale.core.errors import FailedPreconditionError, InvalidInputError
from safescale.core.safety.metrics import SAFETY_METRICS
from safescale.core.statistics.intervals import Interval
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.clients import GroundTruthCache
from safescale.scoring.gate.judge import evaluate_policy
from safescale.scoring.kinds.port import ComparisonOptions
from safescale.scoring.results import RunMeasurements

TRIED = 20
"""Earlier runs of a series that are looked at for the last one that passed: each is measured anew."""


@dataclass(frozen=True, slots=True)
class Against:
    """A run paired with its baseline, whose id is empty where there is none, and what a reader must know of it."""

    comparisons: Comparisons = NONE_COMPARED
    baseline_run_id: str = ""
    notes: tuple[str, ...] = ()


def against_baseline(policy: Policy) -> bool:
    """Return whether a policy has a requirement against a baseline."""
    return any(isinstance(requirement.demand, Margin) for requirement in policy.requirements)


class Baselines:
    """Finds the baseline of a run and compares the two."""

    def __init__(self, truths: GroundTruthCache, results: RunMeasurements) -> None:
        self._truths = truths
        self._results = results

    async def against(self, policy: Policy, run: orchestration_pb2.Run, request: pb.EvaluatePolicyRequest) -> Against:
        """Return a run paired with the baseline that is named, or with the last run of its series that passed.

        Raises:
            FailedPreconditionError: the baseline that is named is unlike the run; each difference is named.
            InvalidInputError: the policy compares with none, or it is not clear which models are meant.
            NotFoundError: there is no such baseline.

        """
        named = request.baseline_run_id
        if not against_baseline(policy):
            if named:
                raise InvalidInputError(f"the policy compares with no baseline, and {named} is named as one")
            return Against()
        options = ComparisonOptions((request.candidate_model, request.baseline_model), policy.confidence)
        if named:
            return await self._compared(run.run_id, named, options)
        found, why = await self._last_that_passed(policy, run)
        if not found:
            return Against(Comparisons((), why))
        try:
            return await self._compared(run.run_id, found, options, f"the last run of the series {why}")
        except FailedPreconditionError as error:
            # Nothing passes by absence, and a run of a series is judged all the same.
            return Against(Comparisons((), error.message), found)

    async def _compared(self, run_id: str, baseline: str, options: ComparisonOptions, which: str = "") -> Against:
        _, other, found = await self._results.compared((run_id, baseline), options)
        baseline_id = other.measured.run.run_id
        told = f"Compared with run {baseline_id}{f', {which}' if which else ''}."
        rows = [measurement_of_pair(row) for row in found.rows]
        comparisons = Comparisons(rows, f"run {baseline_id} and this one have no answers in common")
        return Against(comparisons, baseline_id, (told, *found.notes))

    async def _last_that_passed(self, policy: Policy, run: orchestration_pb2.Run) -> tuple[str, str]:
        """Return the newest earlier run of the series that meets the policy without its baseline, and by what rule.

        An empty id where there is none, and why.
        """
        series = run.manifest.spec.series
        if not series:
            return "", "the run is of no series, so its baseline must be named (`--baseline RUN`)"
        own = tuple(each for each in policy.requirements if not isinstance(each.demand, Margin))
        slices = sorted({each.slice for each in own} - {""})
        earlier = await self._truths.earlier_runs(run)
        for each in earlier[:TRIED]:
            measured = (await self._results.metrics(each.run_id, slices)).measured()
            if measured.obstacles:
                continue
            if not own:
                return each.run_id, "that is complete"
            if evaluate_policy(replace(policy, requirements=own), measured).passed:
                return each.run_id, "that meets the policy's limits"
        among = f"the {TRIED} newest" if len(earlier) > TRIED else f"{len(earlier)}"
        return "", f"none of {among} earlier runs of the series {series} passed; name a baseline (`--baseline RUN`)"


def measurement_of_pair(row: pb.PairedRow) -> PairedMeasurement:
    """Return a paired row as a policy judges it."""
    return PairedMeasurement(
        model=row.candidate_model,
        condition=row.condition,
        regime=row.regime,
        metric=row.metric,
        harm=row.metric in SAFETY_METRICS,
        candidate_value=row.candidate_value,
        baseline_value=row.baseline_value,
        measured=Discordance(
            row.n,
            row.only_candidate,
            row.only_baseline,
            Interval(row.low, row.high),
            row.n_effective if row.HasField("n_effective") else math.nan,
        ),
        worst=Discordance(
            row.n, row.worst_only_candidate, row.worst_only_baseline, Interval(row.worst_low, row.worst_high)
        ),
        best=Discordance(row.n, row.best_only_candidate, row.best_only_baseline, Interval(row.best_low, row.best_high)),
        n_unread=row.n_unread,
    )
