"""The safety run: models answer the questions of a benchmark under deployment conditions. A unit is a cell."""

from collections.abc import AsyncIterator, Mapping, Sequence

from google.protobuf.message import Message as Payload

from safescale.orchestration.clients import Peers
from safescale.orchestration.kinds.port import Group, UnitOutcome
from safescale.orchestration.kinds.safety_draw import NOTHING_DRAWN, drawn_before
from safescale.orchestration.kinds.safety_identity import check_unchanged
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.orchestration.kinds.safety_plan import make_plan, unfit
from safescale.orchestration.kinds.safety_work import SafetyWork, outcome_of
from safescale.orchestration.store import BenchmarkStore, RunStore
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus import topics


class SafetyKind:
    """Safety runs over the stored benchmarks, the models of the catalog and the ingested corpora."""

    name = "safety"
    events: Mapping[str, type[Payload]] = {
        topics.CONTEXT_BUILT: events_pb2.ContextBuilt,
        topics.VERDICT_RECORDED: events_pb2.VerdictRecorded,
    }

    def __init__(self, benchmarks: BenchmarkStore, runs: RunStore, peers: Peers) -> None:
        self._benchmarks = benchmarks
        self._runs = runs
        self._peers = peers

    def accepts(self, spec: pb.RunSpec) -> bool:  # noqa: ARG002
        """Return True: a spec that is of no other kind is a safety run."""
        return True

    async def environment(self, spec: pb.RunSpec) -> Environment:
        """Read the benchmark of a spec, the catalog and the corpora.

        Raises:
            NotFoundError: the benchmark is not stored.
            DependencyUnavailableError: another service cannot be reached.

        """
        benchmark = await self._benchmarks.get(spec.benchmark_id)
        drawn = await drawn_before(self._runs, spec) if spec.HasField("draw") else NOTHING_DRAWN
        return Environment(benchmark, await self._peers.models(), await self._peers.corpora(), drawn)

    def resolve(self, spec: pb.RunSpec, environment: Environment) -> pb.Manifest:
        """Check a spec and fill in its defaults. The manifest names no kind, as those of version 0.1.0.

        Raises:
            SpecError: with every defect.

        """
        return resolve(spec, environment)

    async def plan(self, manifest: pb.Manifest, environment: Environment) -> pb.Plan:
        """Estimate cells, answers, tokens, cost and time; the speed of each model is measured."""
        return await make_plan(manifest, environment.benchmark, environment.models, self._peers.seconds_per_token)

    def check_unchanged(self, run: pb.Run, environment: Environment) -> None:
        """Return when a run would be made today as it was made.

        Raises:
            FailedPreconditionError: it would not, with each difference.

        """
        check_unchanged(run, environment)

    def groups(self, manifest: pb.Manifest) -> Mapping[Group, Sequence[str]]:
        """Return the questions of the run under each model and condition."""
        spec = manifest.spec
        questions = tuple(manifest.question_ids)
        return {(model, condition): questions for condition in spec.conditions for model in spec.models}

    def skips(self, manifest: pb.Manifest) -> list[pb.Skip]:
        """Return the conditions that do not fit a model's window."""
        return unfit(manifest)

    async def outcomes(self, run_id: str) -> AsyncIterator[UnitOutcome]:
        """Read the cells that have a verdict.

        Raises:
            DependencyUnavailableError: scoring cannot be reached.

        """
        async for verdict in self._peers.verdict_keys(run_id):
            yield outcome_of(verdict)

    def work(self, run: pb.Run, environment: Environment) -> SafetyWork:
        """Return the cells of a run at its present attempt."""
        return SafetyWork(run, environment.benchmark, self._peers.put_context)
