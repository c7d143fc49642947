"""The driver over the memory bus, with scripted answers of the other services."""

import asyncio

import pytest

from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.orchestration.driver import DriverPorts, RunDriver
from safescale.orchestration.kinds.port import Unit
from safescale.orchestration.kinds.safety import SafetyKind
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.orchestration.kinds.safety_plan import unfit
from safescale.orchestration.store import RunStore, new_run_id, now
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.limits import MESSAGE_LIMIT
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import SubscriptionOptions
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.telemetry import Telemetry


class World:
    """The bus and the peers of a driver; records what is published."""

    def __init__(self, run: pb.Run, benchmark: Benchmark, store: RunStore) -> None:
        self.telemetry = Telemetry()
        self.bus = MemoryBus(self.telemetry)
        self.generations: list[events_pb2.GenerationRequested] = []
        self.contexts: list[events_pb2.ContextRequested] = []
        self.research: list[events_pb2.ResearchRequested] = []
        self.failures: list[events_pb2.GenerationCompleted] = []
        self.texts: list[str] = []
        kind = SafetyKind(None, None, self)
        environment = Environment(benchmark, {}, {})
        self.driver = RunDriver(run, kind, environment, DriverPorts(self.bus, store, self.telemetry))

    async def put_context(self, text: str) -> str:
        self.texts.append(text)
        return f"context-{len(self.texts)}"

    async def listen(self, models) -> None:
        async def on(topic: str, kind, into: list) -> None:
            async def handle(message) -> None:
                into.append(kind.FromString(message.value))

            await self.bus.subscribe(topic, "test", handle, SubscriptionOptions())

        for model in models:
            await on(topics.generation_requested(model), events_pb2.GenerationRequested, self.generations)
        await on(topics.CONTEXT_REQUESTED, events_pb2.ContextRequested, self.contexts)
        await on(topics.RESEARCH_REQUESTED, events_pb2.ResearchRequested, self.research)
        await on(topics.GENERATION_COMPLETED, events_pb2.GenerationCompleted, self.failures)

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)

    async def answer(self, cell: common_pb2.CellKey, failure: str = "", attempt: int = 1) -> None:
        verdict = scoring_pb2.Verdict(cell=cell, attempt=attempt, usage=common_pb2.Usage(prompt_tokens=10))
        if failure:
            verdict.failure.reason = failure
        await self.driver.on_event(events_pb2.VerdictRecorded(verdict=verdict))


@pytest.fixture
async def make_world(tmp_path, benchmark, models, corpora):
    documents = await SqliteDocuments.open(tmp_path / "r.db")
    store = RunStore(documents)
    worlds = []

    async def make(spec: pb.RunSpec, bench=benchmark) -> World:
        manifest = resolve(spec, Environment(bench, models, corpora))
        run = pb.Run(
            run_id=new_run_id(spec.name), digest="d", state=pb.RUN_STATE_RUNNING, manifest=manifest, created_at=now(),
            skips=unfit(manifest), attempt=1,
        )  # fmt: skip
        await store.create(run)
        world = World(run, bench, store)
        for skip in run.skips:
            world.driver.progress.skip(skip)
        await world.listen(spec.models)
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        await world.driver.stop()
        await world.bus.close()
    await documents.close()


async def test_cells_without_retrieval_are_asked_at_once_and_the_run_completes(make_world, spec) -> None:
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.generations) == 6)
    by_condition = {g.cell.condition: g for g in world.generations}
    assert by_condition["zero_shot"].context.WhichOneof("source") is None
    assert by_condition["evidence_clean"].context.inline_text == "It is this."
    assert {g.sample_count for g in world.generations} == {3}
    assert len({g.seed for g in world.generations}) == 6
    for generation in world.generations:
        assert not world.driver.ended.is_set()
        await world.answer(generation.cell)
    assert world.driver.run.state == pb.RUN_STATE_COMPLETED
    assert world.driver.message().tokens == 60


@pytest.mark.parametrize("conditions", [["zero_shot"], ["top_5"], ["deep_research"]])
async def test_a_question_too_large_for_the_bus_fails_its_cells_alone(
    make_world, make_question, spec, conditions
) -> None:
    questions = [make_question("q0"), make_question("q1", text="x" * MESSAGE_LIMIT), make_question("q2")]
    spec.models[:] = ["small", "other"]
    spec.conditions[:] = conditions
    spec.corpus_id = "c1"
    spec.agent_model = "other" if conditions == ["deep_research"] else ""
    world = await make_world(spec, Benchmark("bench", tuple(questions)))
    world.driver.start()
    await world.until(lambda: len(world.failures) == 2)
    assert {(one.cell.model, one.cell.question_id) for one in world.failures} == {("small", "q1"), ("other", "q1")}
    assert {one.failure.reason for one in world.failures} == {"LIMIT_EXCEEDED"}
    asked = {"zero_shot": world.generations, "top_5": world.contexts, "deep_research": world.research}[conditions[0]]
    await world.until(lambda: len(asked) == (4 if conditions == ["zero_shot"] else 2))
    assert not world.driver.ended.is_set()


async def test_a_question_too_large_with_its_context_fails_its_cells_alone(make_world, make_question, spec) -> None:
    spec.conditions[:] = ["top_5"]
    spec.corpus_id = "c1"
    options = {"A": "this", "B": "y" * MESSAGE_LIMIT}
    world = await make_world(spec, Benchmark("bench", (make_question("q0", options=options), make_question("q1"))))
    world.driver.start()
    await world.until(lambda: len(world.contexts) == 2)
    for question_id in ("q0", "q1"):
        built = events_pb2.ContextBuilt(
            run_id=world.driver.run.run_id, condition="top_5", question_id=question_id, attempt=1,
            context=common_pb2.ContextRef(context_id="abc", token_count=1500),
        )  # fmt: skip
        await world.driver.on_event(built)
    await world.until(lambda: bool(world.failures and world.generations))
    assert [one.cell.question_id for one in world.failures] == ["q0"]
    assert [one.cell.question_id for one in world.generations] == ["q1"]


async def test_known_verdicts_are_not_asked_again(make_world, spec) -> None:
    world = await make_world(spec)
    known = Unit(("small", "zero_shot"), "q1")
    world.driver.progress.known_before(known, failed=False)
    world.driver.start()
    await world.until(lambda: len(world.generations) == 5)
    await asyncio.sleep(0.05)
    assert all((g.cell.condition, g.cell.question_id) != ("zero_shot", "q1") for g in world.generations)


async def test_one_context_serves_all_models(make_world, spec) -> None:
    spec.models.append("other")
    spec.conditions[:] = ["top_5"]
    spec.corpus_id = "c1"
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.contexts) == 3)
    assert world.generations == []
    built = events_pb2.ContextBuilt(
        run_id=world.driver.run.run_id, condition="top_5", question_id="q0", attempt=1,
        context=common_pb2.ContextRef(context_id="abc", token_count=1500),
    )  # fmt: skip
    await world.driver.on_event(built)
    await world.driver.on_event(built)
    await world.until(lambda: len(world.generations) >= 2)
    await asyncio.sleep(0.05)
    assert sorted(g.cell.model for g in world.generations) == ["other", "small"]
    assert {g.context.context_id for g in world.generations} == {"abc"}
    assert world.driver.message().contexts_awaited == 2


async def test_a_context_that_cannot_be_built_fails_its_cells(make_world, spec) -> None:
    spec.conditions[:] = ["top_1"]
    spec.corpus_id = "c1"
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.contexts) == 3)
    failure = common_pb2.Failure(code="UNAVAILABLE", reason="BACKEND_UNAVAILABLE", message="down", retryable=True)
    await world.driver.on_event(
        events_pb2.ContextBuilt(
            run_id=world.driver.run.run_id, condition="top_1", question_id="q0", attempt=1, failure=failure
        )
    )
    await world.until(lambda: bool(world.failures))
    assert world.failures[0].failure.reason == "BACKEND_UNAVAILABLE"
    assert world.failures[0].greedy_asked
    assert world.failures[0].samples_asked == 3


async def test_a_condition_that_does_not_fit_is_skipped(make_world, spec) -> None:
    spec.conditions[:] = ["zero_shot", "context_100k"]
    spec.corpus_id = "c1"
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.generations) == 3)
    for generation in world.generations:
        await world.answer(generation.cell)
    assert world.driver.run.state == pb.RUN_STATE_COMPLETED
    assert "window is 8,192 tokens" in world.driver.run.skips[0].reason
    row = next(row for row in world.driver.message().cells if row.condition == "context_100k")
    assert (row.planned, row.skipped) == (0, 3)


async def test_a_skip_reported_by_retrieval_is_recorded(make_world, spec) -> None:
    spec.conditions[:] = ["context_max"]
    spec.corpus_id = "c1"
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.contexts) == 3)
    assert {c.model for c in world.contexts} == {"small"}
    for context in world.contexts:
        await world.driver.on_event(
            events_pb2.ContextBuilt(
                run_id=context.run_id,
                condition="context_max",
                question_id=context.question_id,
                model="small",
                attempt=1,
                skipped_reason="no room",
            )
        )
    assert world.driver.run.state == pb.RUN_STATE_COMPLETED
    assert len(world.driver.run.skips) == 3


async def test_the_agent_is_asked_once_for_each_question(make_world, spec) -> None:
    spec.models.append("other")
    spec.conditions[:] = ["deep_research"]
    spec.corpus_id = "c1"
    spec.agent_model = "small"
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.research) == 3)
    await asyncio.sleep(0.05)
    assert len(world.research) == 3
    assert world.research[0].agent_model == "small"


async def test_long_evidence_goes_through_the_context_store(make_world, spec, benchmark) -> None:
    from dataclasses import replace

    long = replace(benchmark, questions=tuple(replace(q, evidence_clean="x" * 70_000) for q in benchmark.questions))
    spec.conditions[:] = ["evidence_clean"]
    world = await make_world(spec, long)
    world.driver.start()
    await world.until(lambda: len(world.generations) == 3)
    assert len(world.texts) == 3
    assert world.generations[0].context.context_id.startswith("context-")


async def test_failures_are_counted_and_the_run_goes_on(make_world, spec) -> None:
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.generations) == 6)
    for index, generation in enumerate(world.generations):
        await world.answer(generation.cell, failure="BACKEND_TIMEOUT" if index == 0 else "")
    assert world.driver.run.state == pb.RUN_STATE_COMPLETED
    assert sum(row.failed for row in world.driver.message().cells) == 1
    assert "BACKEND_TIMEOUT" in world.driver.message().last_failure


async def test_a_judge_that_changed_stops_the_run(make_world, spec) -> None:
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.generations) == 6)
    verdict = scoring_pb2.Verdict(cell=world.generations[0].cell, attempt=1)
    verdict.failure.reason, verdict.failure.message = "JUDGE_FAILED", "the judge failed: other has revision r2"
    verdict.samples.add().judge.failure = "the judge could not be asked: MODEL_CHANGED"
    await world.driver.on_event(events_pb2.VerdictRecorded(verdict=verdict))
    assert (world.driver.run.state, world.driver.run.failure.reason) == (pb.RUN_STATE_FAILED, "MODEL_CHANGED")
    assert "other has revision r2" in world.driver.run.failure.message


def answered(cell: common_pb2.CellKey, revision: str) -> events_pb2.VerdictRecorded:
    return events_pb2.VerdictRecorded(verdict=scoring_pb2.Verdict(cell=cell, attempt=1, model_revision=revision))


async def test_an_answer_of_another_revision_stops_the_run_whoever_let_it_pass(make_world, spec) -> None:
    world = await make_world(spec)
    world.driver.start()
    await world.until(lambda: len(world.generations) == 6)
    first, second = world.generations[:2]
    await world.driver.on_event(
        events_pb2.VerdictRecorded(verdict=scoring_pb2.Verdict(cell=first.cell, attempt=1, model_revision="r1"))
    )
    assert not world.driver.ended.is_set()
    await world.driver.on_event(
        events_pb2.VerdictRecorded(verdict=scoring_pb2.Verdict(cell=second.cell, attempt=1, model_revision="r2"))
    )
    assert (world.driver.run.state, world.driver.run.failure.reason) == (pb.RUN_STATE_FAILED, "MODEL_CHANGED")
    assert "answered at revision r2; the run was made with r1" in world.driver.run.failure.message


async def test_a_dead_letter_ends_the_run_as_failed(make_world, spec) -> None:
    world = await make_world(spec)
    world.driver.start()
    failure = common_pb2.Failure(code="INTERNAL", reason="STORAGE_FAILED", message="disk full")
    await world.driver.on_dead_letter(failure)
    assert world.driver.run.state == pb.RUN_STATE_FAILED
    assert world.driver.run.failure.message == "disk full"


async def test_a_stale_verdict_of_an_earlier_attempt_does_not_count(make_world, spec) -> None:
    world = await make_world(spec)
    world.driver.run.attempt = 2
    world.driver.start()
    await world.until(lambda: len(world.generations) == 6)
    await world.answer(world.generations[0].cell, attempt=1)
    assert world.driver.progress.ended_count == 0
