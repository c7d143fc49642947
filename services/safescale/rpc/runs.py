"""What a run was asked for, and what of it is missing, by its message."""

from collections.abc import Collection, Iterable, Sequence

from safescale.core.safety.completeness import CellName, PlannedCells, RunCompleteness, completeness
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2

DEFAULT_KIND = "safety"
"""Kind of a run whose manifest names none, as in version 0.1.0."""


def kind_name(manifest: orchestration_pb2.Manifest) -> str:
    """Return the name of the kind of a run."""
    return manifest.kind or DEFAULT_KIND


def asked_of(run: orchestration_pb2.Run) -> PlannedCells:
    """Return the cells that a run has, by its manifest, and those that were skipped."""
    manifest = run.manifest
    models = dict.fromkeys([*manifest.spec.models, *(model.id for model in manifest.models)])
    skips = [(skip.model, skip.condition, skip.question_id, skip.reason) for skip in run.skips]
    return PlannedCells(tuple(models), tuple(manifest.spec.conditions), tuple(manifest.question_ids), skips)


def state_of(run: orchestration_pb2.Run) -> str:
    """Return the state of a run in lower case, such as completed; a number that is not known here as `unknown`."""
    known = orchestration_pb2.RunState.DESCRIPTOR.values_by_number.get(run.state)
    return known.name.removeprefix("RUN_STATE_").lower() if known else "unknown"


def completeness_of(
    run: orchestration_pb2.Run, cells: Iterable[CellName], known_questions: Collection[str]
) -> RunCompleteness:
    """Compare the cells of a run with those that have a verdict; `known_questions` are those of its benchmark."""
    return completeness(asked_of(run), cells, state_of(run), known_questions)


def names_of(verdicts: Sequence[scoring_pb2.Verdict]) -> list[CellName]:
    """Return the cells of verdicts."""
    return [(one.cell.model, one.cell.condition, one.cell.question_id) for one in verdicts]
