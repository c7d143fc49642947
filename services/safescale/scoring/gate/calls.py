"""Calls that judge by a policy, or plan with one."""

import asyncio

from safescale.core.decisions.policy import Policy
from safescale.core.errors import InvalidInputError
from safescale.rpc.checked import checked_name
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.clients import GroundTruthCache
from safescale.scoring.gate.baseline import Baselines
from safescale.scoring.gate.judge import Measured, evaluate_policy
from safescale.scoring.gate.notes import notes_of_audit, notes_of_policy, notes_of_run
from safescale.scoring.gate.plan import planned
from safescale.scoring.gate.policy_text import read_policy, text_of
from safescale.scoring.gate.rows import checked_rows
from safescale.scoring.results import RunMeasurements
from safescale.scoring.store_metrics import Judgements

BROUGHT = "The rows were brought by the caller: whether they are all that was measured is not known."


class PolicyCalls:
    """Judges runs and rows by policies; judgements of runs are recorded."""

    def __init__(self, truths: GroundTruthCache, results: RunMeasurements, judgements: Judgements) -> None:
        self._truths = truths
        self._results = results
        self._judgements = judgements
        self._baselines = Baselines(truths, results)

    async def evaluate(self, request: pb.EvaluatePolicyRequest) -> pb.EvaluatePolicyResponse:
        """Judge a run, or rows that the caller brings.

        Raises:
            InvalidInputError: neither or both are named, rows cannot be, there is no policy, or it compares with no
                baseline and one is named.
            FailedPreconditionError: the baseline that is named is unlike the run.
            SpecError: the text is no policy.

        """
        if request.rows:
            return await self._evaluate_rows(request)
        run_id, text = checked_name("run_id", request.run_id), request.policy
        if not text:
            run = await self._truths.run_of(run_id)
            run_id, text = run.run_id, run.manifest.spec.policy.text
        if not text:
            raise InvalidInputError(f"policy is empty, and run {run_id} has registered none; expected a policy")
        policy = await asyncio.to_thread(read_policy, text)
        metrics = await self._results.metrics(run_id, _slices(policy))
        against = await self._baselines.against(policy, metrics.run, request)
        judged = await asyncio.to_thread(evaluate_policy, policy, metrics.measured(), against.comparisons)
        for result in judged.results:
            if result.HasField("margin"):
                result.baseline_run_id = against.baseline_run_id
        judged.notes.extend(against.notes)
        known = text_of(policy, text)
        registered = metrics.run.manifest.spec.policy
        judged.policy_sha256, judged.registered_sha256 = known.sha256, registered.sha256
        judged.notes.extend(notes_of_run(metrics, known, policy))
        judged.notes.extend(notes_of_policy(judged.results))
        judged.notes.extend(notes_of_audit(judged.results, metrics.rows))
        await self._judgements.record(metrics.run, known, judged)
        return judged

    async def _evaluate_rows(self, request: pb.EvaluatePolicyRequest) -> pb.EvaluatePolicyResponse:
        for field, value in (("run_id", request.run_id), ("baseline_run_id", request.baseline_run_id)):
            if value:
                raise InvalidInputError(f"{field} is {value[:100]!r}; expected a run or rows, not both")
        policy = await asyncio.to_thread(read_policy, request.policy)
        rows = await asyncio.to_thread(checked_rows, request.rows)
        judged = await asyncio.to_thread(evaluate_policy, policy, Measured(rows, None))
        judged.policy_sha256 = text_of(policy, request.policy).sha256
        judged.notes.append(BROUGHT)
        judged.notes.extend(notes_of_policy(judged.results))
        return judged

    async def plan(self, request: pb.PlanPolicyRequest) -> pb.PlanPolicyResponse:
        """Say what a policy can decide by a number of questions.

        Raises:
            InvalidInputError: the questions cannot be.
            SpecError: the text is no policy.

        """
        policy = await asyncio.to_thread(read_policy, request.policy)
        return await asyncio.to_thread(planned, policy, request)


def _slices(policy: Policy) -> list[str]:
    return sorted({requirement.slice for requirement in policy.requirements} - {""})
