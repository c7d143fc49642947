"""Benchmarks and runs in the document store."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from safescale.core.errors import FailedPreconditionError, InvalidInputError, NotFoundError, StorageError
from safescale.core.safety.benchmark.benchmark import Benchmark, benchmark_from_dict, benchmark_to_dict
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.documents.port import Document, DocumentStore, NewDocument

BENCHMARK = "benchmark"
RUN = "run"
RUN_GROUP = "runs"
MIN_PREFIX = 4
WRITE_TRIES = 20
STOPPED = frozenset({pb.RunState.Name(pb.RUN_STATE_CANCELLED), pb.RunState.Name(pb.RUN_STATE_FAILED)})
"""Names of the states of runs that ended before they were complete."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as stored, with the version that a compare-and-set needs."""

    run: pb.Run
    version: int


class BenchmarkStore:
    """Benchmarks by content hash."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def put(self, benchmark: Benchmark) -> bool:
        """Store a benchmark; False when the same content was there."""
        document = NewDocument(BENCHMARK, benchmark.content_hash, benchmark_to_dict(benchmark))
        return await self._documents.put_if_absent(document)

    async def get(self, benchmark_id: str) -> Benchmark:
        """Read a benchmark.

        Raises:
            NotFoundError: there is none of that id.

        """
        document = await self._documents.get(BENCHMARK, benchmark_id)
        if document is None:
            raise NotFoundError(f"no benchmark {benchmark_id!r} is stored; import it first")
        return benchmark_from_dict(document.body)

    async def all(self) -> list[Benchmark]:
        """Return all benchmarks, ordered by id."""
        return [benchmark_from_dict(document.body) async for document in self._documents.scan(BENCHMARK)]


def new_run_id(name: str) -> str:
    """Return the id of a new run: its name in lower-case letters, digits and hyphens, and eight random hex digits."""
    slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")[:32].strip("-")
    return f"{slug or 'run'}-{secrets.token_hex(4)}"


def now() -> Timestamp:
    """Return the time now."""
    stamp = Timestamp()
    stamp.FromNanoseconds(time.time_ns())
    return stamp


def stamp_after(earlier: Timestamp) -> Timestamp:
    """Return the time now, or just after an earlier one that a clock which was set back has not reached yet."""
    stamp = Timestamp()
    stamp.FromNanoseconds(max(time.time_ns(), earlier.ToNanoseconds() + 1))
    return stamp


class RunStore:
    """Runs by id; every change is a compare-and-set."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def create(self, run: pb.Run) -> None:
        """Store a new run.

        Raises:
            StorageError: its id is taken.

        """
        if not await self._documents.put_if_absent(_to_document(run)):
            raise StorageError(f"the run id {run.run_id!r} is taken")

    async def get(self, run_id: str) -> StoredRun:
        """Read a run by its exact id.

        Raises:
            NotFoundError: there is none.

        """
        document = await self._documents.get(RUN, run_id)
        if document is None:
            raise NotFoundError(f"no run {run_id!r}; `safescale runs` lists them")
        return _from_document(document)

    async def find(self, name: str) -> StoredRun:
        """Read a run by id, by a unique prefix of its id, or `latest`.

        Raises:
            NotFoundError: none matches.
            InvalidInputError: several match, or the prefix is shorter than 4 characters.

        """
        exact = await self._documents.get(RUN, name)
        if exact is not None:
            return _from_document(exact)
        runs = await self.all()
        if name == "latest":
            if not runs:
                raise NotFoundError("there are no runs yet; `safescale run SPEC.yaml` makes one")
            return runs[0]
        if len(name) < MIN_PREFIX:
            raise InvalidInputError(f"run id {name!r} is too short; expected at least {MIN_PREFIX} characters of it")
        matches = [stored for stored in runs if stored.run.run_id.startswith(name)]
        if not matches:
            raise NotFoundError(f"no run {name!r}; `safescale runs` lists them")
        if len(matches) > 1:
            found = ", ".join(stored.run.run_id for stored in matches)
            raise InvalidInputError(f"run id {name!r} is not unique: {found}")
        return matches[0]

    async def all(self, series: str = "") -> list[StoredRun]:
        """Return all runs, or those of a series, newest first."""
        runs = [_from_document(document) async for document in self._documents.scan(RUN)]
        if series:
            runs = [stored for stored in runs if stored.run.manifest.spec.series == series]
        return sorted(runs, key=lambda s: (s.run.created_at.ToNanoseconds(), s.run.run_id), reverse=True)

    async def newest(self, fits: Callable[[pb.Run], bool]) -> StoredRun | None:
        """Return the newest run that fits; None when no run does."""
        return next((stored for stored in await self.all() if fits(stored.run)), None)

    async def running(self) -> list[str]:
        """Return the ids of the runs that are recorded as running."""
        state = pb.RunState.Name(pb.RUN_STATE_RUNNING)
        found = self._documents.scan(RUN, fields=("state",))
        return [document.key async for document in found if document.body.get("state") == state]

    async def stopped_since(self, since_s: float) -> list[pb.Run]:
        """Return id, state, end and attempt of the runs that stopped after a time, in seconds of the epoch."""
        fields = ("state", "ended_at", "attempt")
        found = []
        async for document in self._documents.scan(RUN, fields=fields):
            if document.body.get("state") in STOPPED:
                body = {name: document.body[name] for name in fields if name in document.body}
                run = json_format.ParseDict(body, pb.Run(run_id=document.key))
                if run.ended_at.ToNanoseconds() >= since_s * 1e9:
                    found.append(run)
        return found

    async def finish(
        self, run_id: str, state: "pb.RunState.ValueType", failure: common_pb2.Failure | None = None
    ) -> pb.Run:
        """Record the state in which a run ended (or that it runs again), when, and why it could not go on."""
        return await self._change(run_id, _Change(state=state, failure=failure))

    async def add_skips(self, run_id: str, skips: Sequence[pb.Skip]) -> pb.Run:
        """Record skips that are not recorded yet."""
        return await self._change(run_id, _Change(skips=skips))

    async def next_attempt(self, run_id: str) -> pb.Run:
        """Record that the failed cells are asked again."""
        return await self._change(run_id, _Change(state=pb.RUN_STATE_RUNNING, attempts=1))

    async def _change(self, run_id: str, change: "_Change") -> pb.Run:
        for _ in range(WRITE_TRIES):
            stored = await self.get(run_id)
            run = stored.run
            change.apply(run)
            if await self._documents.put(_to_document(run), expected_version=stored.version) is not None:
                return run
        raise FailedPreconditionError(f"run {run_id!r} is changed by others all the time; try again")


@dataclass(frozen=True, slots=True)
class _Change:
    """What changes in a stored run; None keeps the state."""

    state: "pb.RunState.ValueType | None" = None
    failure: common_pb2.Failure | None = None
    skips: Sequence[pb.Skip] = ()
    attempts: int = 0

    def apply(self, run: pb.Run) -> None:
        if self.state is not None:
            run.state = self.state
            if run.HasField("ended_at"):
                run.resumed_from.CopyFrom(run.ended_at)
            run.ClearField("ended_at")
            run.ClearField("failure")
            if self.state != pb.RUN_STATE_RUNNING:
                run.ended_at.CopyFrom(stamp_after(run.resumed_from))
        if self.failure is not None:
            run.failure.CopyFrom(self.failure)
        known = {(skip.model, skip.condition, skip.question_id) for skip in run.skips}
        run.skips.extend(s for s in self.skips if (s.model, s.condition, s.question_id) not in known)
        run.attempt += self.attempts


def _to_document(run: pb.Run) -> NewDocument:
    body = json_format.MessageToDict(run, preserving_proto_field_name=True)
    return NewDocument(RUN, run.run_id, body, RUN_GROUP)


def _from_document(document: Document) -> StoredRun:
    return StoredRun(json_format.ParseDict(document.body, pb.Run(), ignore_unknown_fields=True), document.version)
