"""What a judge's failure makes of a verdict, and what older verdicts do not tell of who read their answers."""

from collections.abc import Sequence

from safescale.core.safety.answers.judge import JUDGE_FAILED
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.readings import FAILED_MARK, JUDGE, PARSER, SCORES, mark_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


def judge_failure(readings: Sequence[pb.Reading], causes: Sequence[common_pb2.Failure]) -> common_pb2.Failure | None:
    """Return the failure of a cell some of whose answers the judge failed on; None where there are none.

    It is retryable whatever the cause is: judges are mended, and asked again by another attempt of the cell.
    """
    count = sum(mark_of(reading) == FAILED_MARK for reading in readings)
    if not count:
        return None
    cause = causes[0] if causes else common_pb2.Failure(code="UNAVAILABLE", message="the cause was not recorded")
    message = f"the judge failed on {count} of {len(readings)} answers: {cause.message}"
    return common_pb2.Failure(code=cause.code, reason=JUDGE_FAILED, message=message, retryable=True)


def completed(verdict: pb.Verdict) -> pb.Verdict:
    """Complete a stored verdict in place by what version 0.1.0 left out: who read its answers, a judge's failure.

    What it does not tell is taken as not read. Whether a text was cut was not stored then.
    """
    readings = [verdict.greedy] if verdict.HasField("greedy") else []
    readings += verdict.samples
    cloze = verdict.formulation == common_pb2.FORMULATION_CLOZE
    for reading in readings:
        if not reading.read_by and not reading.finish_reason and not reading.judge.failure:
            reading.read_by = _reader(reading, cloze=cloze)
    if not verdict.HasField("failure"):
        failure = judge_failure(readings, ())
        if failure is not None:
            verdict.failure.CopyFrom(failure)
    return verdict


def _reader(reading: pb.Reading, *, cloze: bool) -> str:
    if cloze:
        return SCORES if reading.HasField("letter") else ""
    if reading.HasField("judge"):
        told = reading.HasField("letter") or reading.judge.clear_selection == "no"
        return JUDGE if told and reading.review_reason != JUDGE_FAILED else ""
    return PARSER if reading.HasField("letter") else ""
