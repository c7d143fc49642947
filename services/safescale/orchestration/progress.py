"""What of a run is done: cells by model and condition."""

import time
from collections.abc import Iterable

from safescale.core.safety.cells import Cell
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2

STATES = ("planned", "completed", "failed", "skipped")
"""Numbers of cells that the progress counts."""


class RunProgress:
    """Cells of one run: planned, ended (well or with a failure), skipped."""

    def __init__(self, run: pb.Run) -> None:
        spec = run.manifest.spec
        self.run_id = run.run_id
        self._questions = tuple(run.manifest.question_ids)
        self._pairs = tuple((model, name) for name in spec.conditions for model in spec.models)
        self._ended: dict[Cell, bool] = {}
        self._skipped: set[Cell] = set()
        planned = len(self._questions)
        self._rows = {pair: pb.CellProgress(model=pair[0], condition=pair[1], planned=planned) for pair in self._pairs}
        self._tokens = 0
        self._ended_here = 0
        self._last_failure = ""
        self._begin = time.monotonic()

    def cells(self) -> Iterable[Cell]:
        """All cells, question by question, so that a part of a run compares conditions on the same questions."""
        for question_id in self._questions:
            for model, name in self._pairs:
                yield Cell(self.run_id, model, name, question_id)

    def is_open(self, cell: Cell) -> bool:
        """True when the cell neither ended nor was skipped."""
        return cell not in self._ended and cell not in self._skipped

    @property
    def complete(self) -> bool:
        """True when every cell ended or was skipped."""
        return len(self._ended) + len(self._skipped) == len(self._questions) * len(self._pairs)

    @property
    def failed(self) -> list[Cell]:
        """Cells that ended with a failure."""
        return [cell for cell, failed in self._ended.items() if failed]

    @property
    def ended_count(self) -> int:
        """Cells that ended."""
        return len(self._ended)

    def take_up(self, run: pb.Run, verdicts: Iterable[scoring_pb2.Verdict], *, without_failed: bool = False) -> None:
        """Take up what is recorded of a run: skips and verdicts, those of failed cells only of its present attempt.

        With `without_failed` not even those: they are asked again.
        """
        for verdict in verdicts:
            failed = verdict.HasField("failure")
            if failed and (without_failed or verdict.attempt < run.attempt):
                continue
            key = verdict.cell
            self.known_before(Cell(key.run_id, key.model, key.condition, key.question_id), failed)
        for skip in run.skips:
            self.skip(skip)

    def known_before(self, cell: Cell, failed: bool) -> None:
        """Take up a verdict that was recorded before this process drove the run."""
        if cell not in self._ended:
            self._count(cell, failed)

    def _count(self, cell: Cell, failed: bool) -> None:
        row = self._rows[cell.model, cell.condition]
        self._ended[cell] = failed
        row.completed += 1
        row.failed += failed
        if cell in self._skipped:
            self._skipped.discard(cell)
            row.skipped -= 1
            row.planned += 1

    def skip(self, skip: pb.Skip) -> None:
        """Take up a skip: of one question, or of a whole condition for its model."""
        for question_id in [skip.question_id] if skip.question_id else self._questions:
            cell = Cell(self.run_id, skip.model, skip.condition, question_id)
            if self.is_open(cell):
                self._skipped.add(cell)
                row = self._rows[cell.model, cell.condition]
                row.skipped += 1
                row.planned -= 1

    def end(self, verdict: scoring_pb2.Verdict) -> None:
        """Take up a verdict."""
        key = verdict.cell
        cell = Cell(key.run_id, key.model, key.condition, key.question_id)
        if cell in self._ended:
            return
        failed = verdict.HasField("failure")
        self._count(cell, failed)
        self._ended_here += 1
        if not verdict.cached:
            # As often as the prompt was sent; records of version 0.1.0 do not tell it.
            sent = verdict.usage.prompt_tokens_sent or verdict.usage.prompt_tokens
            self._tokens += sent + verdict.usage.generated_tokens
        if failed:
            self._last_failure = failure_sentence(cell, verdict.failure)

    def totals(self) -> dict[str, int]:
        """Cells by state, over all models and conditions."""
        rows = self._rows.values()
        return {state: sum(getattr(row, state) for row in rows) for state in STATES}

    def message(self, contexts_awaited: int) -> pb.Progress:
        """The progress as a message."""
        return pb.Progress(
            cells=self._rows.values(),
            tokens=self._tokens,
            elapsed_s=time.monotonic() - self._begin,
            completed_here=self._ended_here,
            contexts_awaited=contexts_awaited,
            last_failure=self._last_failure,
        )


def failure_sentence(cell: Cell, failure: common_pb2.Failure) -> str:
    """One line that names the cell and the reason of its failure."""
    return f"{cell.model} / {cell.condition} / {cell.question_id}: {failure.reason}: {failure.message}"
