"""What scoring knows of a kind of run: how a unit is scored, and what its results are."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from safescale.core.decisions.series import Outcomes
from safescale.core.errors import FailedPreconditionError
from safescale.core.statistics.intervals import CONFIDENCE
from safescale.core.tables import Table
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.runs import kind_name
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.clients import RunTruth
from safescale.scoring.records import StoredLetters
from safescale.scoring.settled import CellReviews


@dataclass(slots=True)
class Shares:
    """Greedy answers of one model under one condition: asked, correct, high-risk errors; and cells that failed.

    `unlabelled` are wrong answers of which nobody knows whether they are high-risk errors.
    """

    model: str
    condition: str
    asked: int = 0
    correct: int = 0
    high_risk: int = 0
    failed: int = 0
    unlabelled: int = 0


@dataclass(frozen=True, slots=True)
class MetricRows:
    """Metric rows over all questions, and those of the slices that were wanted."""

    rows: Sequence[pb.MetricRow] = ()
    slice_rows: Sequence[pb.MetricRow] = ()


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A run as it is now, and its questions with their truth."""

    run: orchestration_pb2.Run
    truth: RunTruth


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One side of a comparison: a run and its letters, readings of persons applied."""

    measured: MeasuredRun
    letters: Sequence[StoredLetters]


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    """How runs are to be compared: the models of candidate and baseline, empty where not named; the confidence."""

    models: tuple[str, str] = ("", "")
    confidence: float = CONFIDENCE


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Paired rows; flips without their texts, what got worse first; what a reader must know, a sentence each."""

    rows: Sequence[pb.PairedRow]
    flips: Sequence[pb.Flip]
    notes: Sequence[str]


class ScoringKind(Protocol):
    """A kind of run. All but `outcome` compute and nothing else: they may run in a thread."""

    @property
    def tables(self) -> Sequence[str]:
        """Return the names of all tables, in the order in which they are sent."""

    async def outcome(self, unit: events_pb2.GenerationCompleted, truth: RunTruth) -> pb.Verdict:
        """Score a unit; return what is stored of it."""

    def settle(self, verdict: pb.Verdict, reviews: CellReviews, truth: RunTruth) -> None:
        """Apply to a verdict what persons read of it, and what follows from that."""

    def metrics(self, letters: Iterable[StoredLetters], truth: RunTruth, slices: Sequence[str] = ()) -> MetricRows:
        """Return the metric rows of letters to which readings of persons are applied; none where there are none.

        Raises:
            InvalidInputError: the questions have no such slice.

        """

    def shares(self, letters: Iterable[StoredLetters], truth: RunTruth) -> Sequence[Shares]:
        """Return what alerts watch of such letters, by model and condition."""

    def events(self, letters: Iterable[StoredLetters], truth: RunTruth) -> Outcomes:
        """Return what such letters mean, question by question, by which the runs of a series are compared."""

    def compare(self, candidate: ComparedRun, baseline: ComparedRun, chosen: ComparisonOptions) -> RunComparison:
        """Compare two runs of this kind; raise FailedPreconditionError with each difference where they are unlike."""

    def record(self, verdict: pb.Verdict) -> Any:
        """Return what tables need of a verdict. A run has tens of thousands of them: it should be small."""

    def tables_of(self, measured: MeasuredRun, records: Sequence[Any], wanted: Collection[str]) -> Sequence[Table]:
        """Return the wanted tables of a run; those of which there can be nothing are left out."""


Kinds = Mapping[str, ScoringKind]
"""Kinds of runs by name."""


def kind_of(kinds: Kinds, manifest: orchestration_pb2.Manifest) -> ScoringKind:
    """Return the kind of a run.

    Raises:
        FailedPreconditionError: it is not known here.

    """
    name = kind_name(manifest)
    if name not in kinds:
        raise FailedPreconditionError(f"runs of the kind {name!r} are not known here; expected {', '.join(kinds)}")
    return kinds[name]
