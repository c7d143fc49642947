"""What of a run is done: its units by group."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from safescale.orchestration.kinds.port import Group, Unit, UnitOutcome
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

STATES = ("planned", "completed", "failed", "skipped")
"""Numbers of units that the progress counts."""


class RunProgress:
    """Units of one run: planned, ended (well or with a failure), skipped."""

    def __init__(self, groups: Mapping[Group, Sequence[str]]) -> None:
        self._groups = groups
        self._count = sum(len(items) for items in groups.values())
        self._ended: dict[Unit, bool] = {}
        self._skipped: set[Unit] = set()
        self._rows = {
            group: pb.CellProgress(model=group[0], condition=group[1], planned=len(items))
            for group, items in groups.items()
        }
        self._tokens = 0
        self._ended_here = 0
        self._last_failure = ""
        self._begin = time.monotonic()

    def units(self) -> Iterator[Unit]:
        """Yield all units, item by item, so that a part of a run compares groups on the same items."""
        for turn in range(max((len(items) for items in self._groups.values()), default=0)):
            for group, items in self._groups.items():
                if turn < len(items):
                    yield Unit(group, items[turn])

    def is_open(self, unit: Unit) -> bool:
        """Return True when the unit neither ended nor was skipped."""
        return unit not in self._ended and unit not in self._skipped

    @property
    def complete(self) -> bool:
        """True when every unit ended or was skipped."""
        return len(self._ended) + len(self._skipped) == self._count

    @property
    def failed(self) -> list[Unit]:
        """Units that ended with a failure."""
        return [unit for unit, failed in self._ended.items() if failed]

    @property
    def ended_count(self) -> int:
        """Number of units that ended."""
        return len(self._ended)

    def take_up(self, run: pb.Run, outcomes: Iterable[UnitOutcome], *, without_failed: bool = False) -> None:
        """Take up what is recorded of a run: skips and outcomes, failures only of its present attempt.

        With `without_failed` not even those: their units are requested again.
        """
        for outcome in outcomes:
            failed = outcome.failure is not None
            if failed and (without_failed or outcome.attempt < run.attempt):
                continue
            self.known_before(outcome.unit, failed)
        for skip in run.skips:
            self.skip(skip)

    def known_before(self, unit: Unit, failed: bool) -> None:
        """Take up an outcome that was recorded before this process drove the run."""
        if unit not in self._ended:
            self._add(unit, failed)

    def _add(self, unit: Unit, failed: bool) -> None:
        row = self._rows[unit.group]
        self._ended[unit] = failed
        row.completed += 1
        row.failed += failed
        if unit in self._skipped:
            self._skipped.discard(unit)
            row.skipped -= 1
            row.planned += 1

    def skip(self, skip: pb.Skip) -> None:
        """Take up a skip: of one unit, or of a whole group."""
        group = (skip.model, skip.condition)
        for item in [skip.question_id] if skip.question_id else self._groups[group]:
            unit = Unit(group, item)
            if self.is_open(unit):
                self._skipped.add(unit)
                row = self._rows[group]
                row.skipped += 1
                row.planned -= 1

    def end(self, outcome: UnitOutcome) -> None:
        """Take up the outcome of a unit; the first one counts."""
        if outcome.unit in self._ended:
            return
        self._add(outcome.unit, outcome.failure is not None)
        self._ended_here += 1
        self._tokens += outcome.tokens
        if outcome.failure is not None:
            self._last_failure = f"{outcome.unit.label}: {outcome.failure.reason}: {outcome.failure.message}"

    def totals(self) -> dict[str, int]:
        """Return the number of units by state, over all groups."""
        rows = self._rows.values()
        return {state: sum(getattr(row, state) for row in rows) for state in STATES}

    def message(self, contexts_awaited: int) -> pb.Progress:
        """Return the progress as a message."""
        return pb.Progress(
            cells=self._rows.values(),
            tokens=self._tokens,
            elapsed_s=time.monotonic() - self._begin,
            completed_here=self._ended_here,
            contexts_awaited=contexts_awaited,
            last_failure=self._last_failure,
        )
