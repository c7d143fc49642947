"""The life of a run is that of any kind: a kind of three units, made for this test, runs through all of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest
from google.protobuf.message import Message as Payload
from google.protobuf.struct_pb2 import Struct

from safescale.core.errors import FailedPreconditionError, SpecError
from safescale.orchestration.kinds.port import Group, PreparationKey, Reaction, Unit, UnitOutcome
from safescale.orchestration.runs import Runs, RunsPorts
from safescale.orchestration.store import RunStore
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.telemetry import Telemetry

REQUESTED = "safescale.stone.requested.v1"
LIFTED = "safescale.stone.lifted.v1"
STONES = ("1", "2", "3")


def event(run_id: str, item: str, attempt: int, failure: str = "") -> Struct:
    made = Struct()
    made.update({"run_id": run_id, "item": item, "attempt": attempt, "failure": failure})
    return made


def outcome_of(found: Struct) -> UnitOutcome:
    failure = common_pb2.Failure(reason=found["failure"], message="too heavy") if found["failure"] else None
    return UnitOutcome(Unit(("stones", ""), found["item"]), int(found["attempt"]), failure, tokens=7)


class StoneWork:
    """Each stone is requested by a message of its own."""

    def __init__(self, run: pb.Run) -> None:
        self._run = run

    def preparation(self, unit: Unit) -> PreparationKey | None:
        return None

    async def request(self, unit: Unit) -> list[Message]:
        return [self._message(REQUESTED, event(self._run.run_id, unit.item, self._run.attempt))]

    def failed(self, unit: Unit, failure: common_pb2.Failure) -> Message:
        return self._message(LIFTED, event(self._run.run_id, unit.item, self._run.attempt, failure.reason))

    def _message(self, topic: str, payload: Struct) -> Message:
        return event_message(topic, payload["item"], payload, self._run.run_id, self._run.attempt)

    def take_up(self, found: Payload, is_open: Callable[[Unit], bool]) -> Reaction | None:
        assert isinstance(found, Struct)
        return Reaction(outcomes=[outcome_of(found)]) if found["attempt"] == self._run.attempt else None


class StoneKind:
    """Runs that lift stones; their environment is how many there are."""

    name = "stones"
    events: Mapping[str, type[Payload]] = {LIFTED: Struct}

    def __init__(self) -> None:
        self.there = len(STONES)
        self.recorded: dict[tuple[str, str], Struct] = {}

    def accepts(self, spec: pb.RunSpec) -> bool:
        return spec.name == "stones"

    async def environment(self, spec: pb.RunSpec) -> int:
        return self.there

    def resolve(self, spec: pb.RunSpec, environment: int) -> pb.Manifest:
        if not environment:
            raise SpecError("there are no stones")
        return pb.Manifest(kind=self.name, spec=spec, question_ids=STONES[:environment])

    async def plan(self, manifest: pb.Manifest, environment: int) -> pb.Plan:
        return pb.Plan(cell_count=environment)

    def check_unchanged(self, run: pb.Run, environment: int) -> None:
        if len(run.manifest.question_ids) != environment:
            raise FailedPreconditionError("a stone is gone")

    def groups(self, manifest: pb.Manifest) -> Mapping[Group, Sequence[str]]:
        return {("stones", ""): tuple(manifest.question_ids)}

    def skips(self, manifest: pb.Manifest) -> list[pb.Skip]:
        return []

    async def outcomes(self, run_id: str) -> AsyncIterator[UnitOutcome]:
        for (recorded_for, _), found in self.recorded.items():
            if recorded_for == run_id:
                yield outcome_of(found)

    def work(self, run: pb.Run, environment: int) -> StoneWork:
        return StoneWork(run)


class Yard:
    """A process's runs, and who lifts the stones: those of `lifted`, of which `too_heavy` fail."""

    def __init__(self, documents: SqliteDocuments) -> None:
        self.telemetry = Telemetry()
        self.bus = MemoryBus(self.telemetry)
        self.store = RunStore(documents)
        self.kind = StoneKind()
        self.requested: list[tuple[str, int]] = []
        self.lifted: set[str] = set()
        self.too_heavy: set[str] = set()
        self.runs = self.process()

    def process(self) -> Runs:
        return Runs(RunsPorts(self.bus, {self.kind.name: self.kind}, self.store, self.telemetry))

    async def lift(self, message: Message) -> None:
        asked = Struct.FromString(message.value)
        item, attempt = asked["item"], int(asked["attempt"])
        self.requested.append((item, attempt))
        if item in self.lifted:
            found = event(asked["run_id"], item, attempt, "TOO_HEAVY" if item in self.too_heavy else "")
            self.kind.recorded[found["run_id"], item] = found
            await self.runs.on_event(found["run_id"], found)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)

    async def state(self, run: pb.Run) -> "pb.RunState.ValueType":
        return (await self.store.get(run.run_id)).run.state

    async def until_ended(self, run: pb.Run) -> pb.Run:
        driver = self.runs.driver(run.run_id)
        if driver is not None:
            await asyncio.wait_for(driver.ended.wait(), 10)
        return (await self.store.get(run.run_id)).run


@pytest.fixture
async def yard(tmp_path) -> AsyncIterator[Yard]:
    documents = await SqliteDocuments.open(tmp_path / "r.db")
    made = Yard(documents)
    await made.bus.subscribe(REQUESTED, "yard", made.lift, SubscriptionOptions())
    yield made
    await made.runs.stop()
    await made.bus.close()
    await documents.close()


@pytest.fixture
def spec() -> pb.RunSpec:
    return pb.RunSpec(name="stones")


async def test_a_run_whose_units_all_end_is_complete(yard: Yard, spec: pb.RunSpec) -> None:
    yard.lifted = set(STONES)
    planned = await yard.runs.plan(spec)
    assert (planned.plan.cell_count, planned.run.manifest.kind) == (3, "stones")
    run = (await yard.runs.create(spec, force_new=False)).run
    ended = await yard.until_ended(run)
    assert ended.state == pb.RUN_STATE_COMPLETED
    assert sorted(yard.requested) == [("1", 1), ("2", 1), ("3", 1)]
    (row,) = (await yard.runs.progress(ended)).cells
    assert (row.model, row.planned, row.completed, row.failed) == ("stones", 3, 3, 0)


async def test_after_an_interruption_only_what_is_left_is_requested(yard: Yard, spec: pb.RunSpec) -> None:
    yard.lifted = {"2"}
    run = (await yard.runs.create(spec, force_new=False)).run
    await yard.until(lambda: len(yard.requested) == 3)
    await yard.runs.stop()
    yard.requested.clear()
    yard.lifted = set(STONES)
    yard.runs = yard.process()
    await yard.runs.resume_all()
    assert (await yard.until_ended(run)).state == pb.RUN_STATE_COMPLETED
    assert sorted(yard.requested) == [("1", 1), ("3", 1)]


async def test_a_cancelled_run_takes_up_nothing_more_and_goes_on_when_it_is_created_again(
    yard: Yard, spec: pb.RunSpec
) -> None:
    yard.lifted = {"1"}
    run = (await yard.runs.create(spec, force_new=False)).run
    await yard.until(lambda: len(yard.requested) == 3)
    assert (await yard.runs.cancel(run)).state == pb.RUN_STATE_CANCELLED
    await yard.runs.on_event(run.run_id, event(run.run_id, "2", 1))
    assert (await yard.runs.progress(run)).cells[0].completed == 1
    yard.requested.clear()
    yard.lifted = set(STONES)
    again = await yard.runs.create(spec, force_new=False)
    assert (again.resumed, again.run.run_id) == (True, run.run_id)
    assert (await yard.until_ended(run)).state == pb.RUN_STATE_COMPLETED
    assert sorted(yard.requested) == [("2", 1), ("3", 1)]


async def test_a_retry_requests_the_failed_unit_alone(yard: Yard, spec: pb.RunSpec) -> None:
    yard.lifted, yard.too_heavy = set(STONES), {"2"}
    run = (await yard.runs.create(spec, force_new=False)).run
    ended = await yard.until_ended(run)
    progress = await yard.runs.progress(ended)
    assert (ended.state, progress.cells[0].failed) == (pb.RUN_STATE_COMPLETED, 1)
    yard.requested.clear()
    yard.too_heavy = set()
    assert (await yard.runs.retry_failed(ended)).retried_count == 1
    assert (await yard.until_ended(run)).state == pb.RUN_STATE_COMPLETED
    assert yard.requested == [("2", 2)]
    assert (await yard.runs.progress(ended)).cells[0].failed == 0


async def test_a_run_that_would_be_made_otherwise_today_is_not_resumed(yard: Yard, spec: pb.RunSpec) -> None:
    run = (await yard.runs.create(spec, force_new=False)).run
    await yard.until(lambda: len(yard.requested) == 3)
    await yard.runs.stop()
    yard.kind.there = 2
    yard.runs = yard.process()
    await yard.runs.resume_all()
    stored = (await yard.store.get(run.run_id)).run
    assert (stored.state, stored.failure.message) == (pb.RUN_STATE_FAILED, "a stone is gone")


async def test_what_no_kind_of_this_version_knows_is_named(yard: Yard, spec: pb.RunSpec) -> None:
    spec.name = "bricks"
    with pytest.raises(FailedPreconditionError, match="'bricks' is of no kind of this version: stones"):
        await yard.runs.create(spec, force_new=False)
    run = pb.Run(run_id="old-1", manifest=pb.Manifest(kind="bricks"), state=pb.RUN_STATE_RUNNING, attempt=1)
    await yard.store.create(run)
    await yard.runs.resume_all()
    stored = (await yard.store.get("old-1")).run
    assert (stored.state, stored.failure.reason) == (pb.RUN_STATE_FAILED, "FAILED_PRECONDITION")
    assert "runs of kind 'bricks' are not known to this version" in stored.failure.message
