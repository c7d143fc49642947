"""What a kind of run provides: the life of a run (plan, publish, settle, resume, end) knows no more of it than this.

A run consists of units. The driver requests each unit once, follows the events that a kind listens to, and ends the
run when every unit has an outcome or was skipped. Which units there are, what is published for one, and what an event
means for them is known to the kind alone.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from google.protobuf.message import Message as Payload

from safescale.core.errors import FailedPreconditionError
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus.port import Message

Group = tuple[str, str]
"""The row of the progress that a unit counts in: the fields `model` and `condition` of CellProgress and Skip."""

PreparationKey = tuple[str, ...]
"""Names what several units wait for together, such as the context of a question."""


class Unit(NamedTuple):
    """One unit of work of a run: one request, one outcome, one retry. `item` names it within its group."""

    group: Group
    item: str

    @property
    def label(self) -> str:
        """The unit as messages for people name it."""
        return " / ".join(part for part in (*self.group, self.item) if part)


class UnitOutcome(NamedTuple):
    """How a unit ended, at which attempt of its run, and the tokens it took.

    `stops_run` is set where every further outcome would be the same failure: the run ends with it.
    """

    unit: Unit
    attempt: int
    failure: common_pb2.Failure | None = None
    tokens: int = 0
    stops_run: common_pb2.Failure | None = None


class Reaction(NamedTuple):
    """What follows from an event: skips to record, messages to publish, outcomes to count.

    `preparation` is set where the event answers the request for one: it counts while that is awaited, and once.
    """

    messages: Sequence[Message] = ()
    skips: Sequence[pb.Skip] = ()
    outcomes: Sequence[UnitOutcome] = ()
    preparation: PreparationKey | None = None


class RunWork(Protocol):
    """The work of one run at one attempt."""

    def preparation(self, unit: Unit) -> PreparationKey | None:
        """Return the key of what has to be prepared before the unit can be requested; None when nothing has to."""

    async def request(self, unit: Unit) -> list[Message]:
        """Make the messages that request a unit, or its preparation where it needs one.

        Raises:
            SafescaleError: it cannot be requested. A retryable error says that a dependency is away.

        """

    def failed(self, unit: Unit, failure: common_pb2.Failure) -> Message:
        """Make the message that records a unit as failed because it cannot be requested."""

    def take_up(self, event: Payload, is_open: Callable[[Unit], bool]) -> Reaction | None:
        """Return what follows from an event of this run; None when nothing does, such as for another attempt.

        `is_open` is true of units that neither ended nor were skipped.
        """


E = TypeVar("E")
"""What a kind has to know of the system to resolve a spec and to work on a run: catalogs, stored inputs."""


class RunKind(Protocol[E]):
    """A kind of run. Its name stands in the manifests of its runs."""

    @property
    def name(self) -> str:
        """Return the name, as the registry and `Manifest.kind` have it."""

    @property
    def events(self) -> Mapping[str, type[Payload]]:
        """Return the topics that carry events of its runs, each with the type of its payload."""

    def accepts(self, spec: pb.RunSpec) -> bool:
        """Return whether a spec is one of this kind."""

    async def environment(self, spec: pb.RunSpec) -> E:
        """Read what a spec refers to.

        Raises:
            SafescaleError: it cannot be read.

        """

    def resolve(self, spec: pb.RunSpec, environment: E) -> pb.Manifest:
        """Check a spec and fill in its defaults; nothing that decides the results is left open.

        Raises:
            SpecError: with every defect.

        """

    async def plan(self, manifest: pb.Manifest, environment: E) -> pb.Plan:
        """Estimate how much a run will take."""

    def check_unchanged(self, run: pb.Run, environment: E) -> None:
        """Return when a run would be made today as it was made.

        Raises:
            FailedPreconditionError: it would not, with each difference.

        """

    def groups(self, manifest: pb.Manifest) -> Mapping[Group, Sequence[str]]:
        """Return the units of a run: the items of each group, groups in the order of the progress."""

    def skips(self, manifest: pb.Manifest) -> list[pb.Skip]:
        """Return what is skipped before anything is requested, and why."""

    def outcomes(self, run_id: str) -> AsyncIterator[UnitOutcome]:
        """Read the outcomes that are recorded of a run, of each unit that of its newest attempt.

        Raises:
            SafescaleError: they cannot be read.

        """

    def work(self, run: pb.Run, environment: E) -> RunWork:
        """Return the work of a run at its present attempt."""


Kinds = Mapping[str, RunKind[Any]]
"""The kinds by name."""

DEFAULT_KIND = "safety"
"""Kind of a manifest that names none: the first version knew one kind."""


def kind_of(kinds: Kinds, manifest: pb.Manifest) -> RunKind[Any]:
    """Return the kind of a run.

    Raises:
        FailedPreconditionError: this process has no such kind.

    """
    name = manifest.kind or DEFAULT_KIND
    if name not in kinds:
        raise FailedPreconditionError(
            f"runs of kind {name!r} are not known to this version; expected one of {', '.join(kinds)}"
        )
    return kinds[name]


def kind_for(kinds: Kinds, spec: pb.RunSpec) -> RunKind[Any]:
    """Return the kind that a spec asks for: the first that accepts it.

    Raises:
        FailedPreconditionError: none does.

    """
    for kind in kinds.values():
        if kind.accepts(spec):
            return kind
    raise FailedPreconditionError(f"run spec {spec.name!r} is of no kind of this version: {', '.join(kinds)}")
