"""CompareRuns: a comparison as a message, with the texts and contexts of the questions that differ."""

from collections.abc import Iterator, Sequence

from safescale.core.errors import InvalidInputError
from safescale.core.safety.cells import record_key
from safescale.core.statistics.intervals import CONFIDENCE
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.kinds.port import ComparedRun, ComparisonOptions
from safescale.scoring.records import StoredLetters
from safescale.scoring.results import RunMeasurements

LISTED_FLIPS = 5_000
"""Flips of a message at most: more than a person reads."""

LISTED_BYTES = 16 * 1024 * 1024
"""Bytes of their texts at most, half of what a message holds."""

READ_AT_ONCE = 200
"""Flips whose verdicts are read at once, with all texts of their samples."""

LEAST_CONFIDENCE = 0.5


def checked_confidence(confidence: float) -> float:
    """Return the confidence asked for, or the usual one where none was named.

    Raises:
        InvalidInputError: it is none.

    """
    if not confidence:
        return CONFIDENCE
    if not LEAST_CONFIDENCE < confidence < 1:
        raise InvalidInputError(f"confidence is {confidence:g}; expected a number above 0.5 and below 1, such as 0.95")
    return confidence


async def compare_runs(results: RunMeasurements, request: pb.CompareRunsRequest) -> pb.CompareRunsResponse:
    """Compare two runs, or two models of one run where no baseline is named.

    Raises:
        NotFoundError: there is no such run.
        FailedPreconditionError: the runs are unlike; each difference is named.
        InvalidInputError: the request is not clear.

    """
    if not request.candidate_run_id:
        raise InvalidInputError("candidate_run_id is empty; expected a run")
    chosen = ComparisonOptions(
        (request.candidate_model, request.baseline_model), checked_confidence(request.confidence)
    )
    names = (request.candidate_run_id, request.baseline_run_id or request.candidate_run_id)
    candidate, baseline, found = await results.compared(names, chosen)
    response = pb.CompareRunsResponse(
        candidate_run_id=candidate.measured.run.run_id,
        baseline_run_id=baseline.measured.run.run_id,
        rows=found.rows,
        confidence=chosen.confidence,
        notes=found.notes,
        flip_count=len(found.flips),
    )
    if not request.without_flips:
        listed = await _with_texts(results, (candidate, baseline), found.flips[:LISTED_FLIPS])
        response.flips.extend(listed)
        if len(listed) < len(found.flips):
            response.notes.append(
                f"The first {len(listed):,} of {len(found.flips):,} flips are listed, what got worse first."
            )
    return response


async def _with_texts(
    results: RunMeasurements, sides: tuple[ComparedRun, ComparedRun], flips: Sequence[pb.Flip]
) -> list[pb.Flip]:
    """Return the flips with texts and contexts of both sides, as many of them as a message should hold."""
    letters = [{_place(one): one for one in side.letters} for side in sides]
    found: list[pb.Flip] = []
    size = 0
    for block in _blocks(flips):
        for name, side, known in zip(("candidate", "baseline"), sides, letters, strict=True):
            keys = [_key(known[getattr(flip, f"{name}_model"), flip.condition, flip.question_id]) for flip in block]
            verdicts = await results.read(side.measured.run.run_id, keys)
            for flip, verdict in zip(block, verdicts, strict=True):
                _fill(flip, name, verdict)
        for flip in block:
            size += flip.ByteSize()
            if found and size > LISTED_BYTES:
                return found
            found.append(flip)
    return found


def _blocks(flips: Sequence[pb.Flip]) -> Iterator[Sequence[pb.Flip]]:
    for begin in range(0, len(flips), READ_AT_ONCE):
        yield flips[begin : begin + READ_AT_ONCE]


def _place(one: StoredLetters) -> tuple[str, str, str]:
    return one.cell.model, one.cell.condition, one.cell.question_id


def _key(one: StoredLetters) -> str:
    return record_key(one.cell, one.key.attempt)


def _fill(flip: pb.Flip, side: str, verdict: pb.Verdict) -> None:
    if flip.regime == "greedy":
        setattr(flip, f"{side}_text", verdict.greedy.text)
    setattr(flip, f"{side}_context_id", verdict.context_id)
