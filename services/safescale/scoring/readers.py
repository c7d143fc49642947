"""Who read an answer: the words for it, a mark of each for compact columns, and counts."""

from collections import Counter
from collections.abc import Iterable, Sequence

from safescale.core.judge import JUDGE_FAILED
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

PARSER, JUDGE, PERSON, SCORES = "parser", "judge", "person", "scores"

UNREAD_MARK = "-"
"""Nobody could read it."""

FAILED_MARK = "f"
"""Nobody could read it, since the judge failed."""

PERSON_MARK = "h"

MARKS = {PARSER: "p", JUDGE: "j", PERSON: PERSON_MARK, SCORES: "s", "": UNREAD_MARK}


def mark_of(reading: pb.Reading) -> str:
    """One character for who read an answer."""
    if not reading.read_by and reading.review_reason == JUDGE_FAILED:
        return FAILED_MARK
    return MARKS.get(reading.read_by, UNREAD_MARK)


def marks_of(verdict: pb.Verdict) -> tuple[str, str]:
    """Marks of a verdict's greedy answer and of its samples; empty where there are no answers."""
    greedy = mark_of(verdict.greedy) if verdict.HasField("greedy") else ""
    return greedy, "".join(map(mark_of, verdict.samples))


def counts_of(marks: Iterable[str]) -> pb.ReadingCounts:
    """Answers by who read them, from texts of marks."""
    found: Counter[str] = Counter()
    for text in marks:
        found.update(text)
    counts = pb.ReadingCounts(unread=found[UNREAD_MARK] + found[FAILED_MARK], judge_failed=found[FAILED_MARK])
    for name in (PARSER, JUDGE, PERSON, SCORES):
        setattr(counts, name, found[MARKS[name]])
    return counts


def judge_failure(readings: Sequence[pb.Reading], causes: Sequence[common_pb2.Failure]) -> common_pb2.Failure | None:
    """Failure of a cell some of whose answers the judge failed on; None where there are none.

    It is retryable whatever the cause is: judges are mended, and asked again by another attempt of the cell.
    """
    count = sum(mark_of(reading) == FAILED_MARK for reading in readings)
    if not count:
        return None
    cause = causes[0] if causes else common_pb2.Failure(code="UNAVAILABLE", message="the cause was not recorded")
    message = f"the judge failed on {count} of {len(readings)} answers: {cause.message}"
    return common_pb2.Failure(code=cause.code, reason=JUDGE_FAILED, message=message, retryable=True)


def completed(verdict: pb.Verdict) -> pb.Verdict:
    """A stored verdict with what version 0.1.0 left out, changed in place: who read its answers, a judge's failure.

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
