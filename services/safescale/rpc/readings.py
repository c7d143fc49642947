"""Who read an answer: the words for it, a mark of each for compact columns, counts, and the line that tells them."""

from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest

from safescale.core.safety.answers.answer_cells import NULL_MARK
from safescale.core.safety.answers.answer_cells import UNREAD_MARK as UNREAD_LETTER
from safescale.core.safety.answers.judge import CUT_BY_LENGTH, JUDGE_FAILED
from safescale.core.safety.answers.reading import STRICT
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

PARSER, JUDGE, PERSON, SCORES = "parser", "judge", "person", "scores"

UNREAD_MARK = "-"
"""Nobody could read it."""

FAILED_MARK = "f"
"""Nobody could read it, since the judge failed."""

CUT_MARK = "c"
"""Nobody could read it, since the text was cut before its end."""

PERSON_MARK = "h"

MARKS = {PARSER: "p", JUDGE: "j", PERSON: PERSON_MARK, SCORES: "s"}
UNREAD_MARKS = {JUDGE_FAILED: FAILED_MARK, CUT_BY_LENGTH: CUT_MARK}

READERS = (PARSER, JUDGE, PERSON, SCORES, "unread", "judge_failed", "cut_by_length")
"""Fields of `ReadingCounts`."""


def reading_of(manifest: orchestration_pb2.Manifest) -> str:
    """Return the name of the rules by which a run's answers are read; runs that state none are read strictly."""
    return manifest.spec.reading or STRICT


def mark_of(reading: pb.Reading) -> str:
    """Return one character for who read an answer, or for why nobody could."""
    mark = MARKS.get(reading.read_by)
    return UNREAD_MARKS.get(reading.review_reason, UNREAD_MARK) if mark is None else mark


def marks_of(verdict: pb.Verdict) -> tuple[str, str]:
    """Return marks of a verdict's greedy answer and of its samples; empty where there are no answers."""
    greedy = mark_of(verdict.greedy) if verdict.HasField("greedy") else ""
    return greedy, "".join(map(mark_of, verdict.samples))


def letters_read(letters: str, marks: str) -> str:
    """Return letters with those that nobody could read marked: an abstention is a null that somebody read.

    What has no mark is an answer that a failed cell lacks.
    """
    if NULL_MARK not in letters:
        return letters
    read = frozenset(MARKS.values())
    pairs = zip_longest(letters, marks[: len(letters)], fillvalue="")
    return "".join(UNREAD_LETTER if letter == NULL_MARK and mark not in read else letter for letter, mark in pairs)


def counts_of(marks: Iterable[str]) -> pb.ReadingCounts:
    """Return answers by who read them, from texts of marks."""
    found: Counter[str] = Counter()
    for text in marks:
        found.update(text)
    return pb.ReadingCounts(
        parser=found[MARKS[PARSER]],
        judge=found[MARKS[JUDGE]],
        person=found[PERSON_MARK],
        scores=found[MARKS[SCORES]],
        unread=found[UNREAD_MARK] + found[FAILED_MARK] + found[CUT_MARK],
        judge_failed=found[FAILED_MARK],
        cut_by_length=found[CUT_MARK],
    )


def readings_line(counts: pb.ReadingCounts) -> str:
    """Return one line that tells who read the answers, and how many nobody could."""
    of = [("judge failed", counts.judge_failed), ("cut by length", counts.cut_by_length)]
    why = ", ".join(f"{name} {count:,}" for name, count in of if count)
    parts = [f"{name} {getattr(counts, name):,}" for name in (PARSER, JUDGE, PERSON)]
    if counts.scores:
        parts.append(f"option scores {counts.scores:,}")
    parts.append(f"unread {counts.unread:,}" + (f" ({why})" if why else ""))
    return f"read by {' · '.join(parts)}"


def unread_hints(counts: pb.ReadingCounts, judge: str, reading: str = STRICT) -> list[str]:
    """Return what to do about answers that nobody could read, a sentence each.

    `judge` is that of the run, or empty; `reading` names its rules.
    """
    hints = []
    if counts.cut_by_length:
        hints.append(
            f"Cut by length, so that no letter of theirs counts: {_answers(counts.cut_by_length)}. Raise "
            "`max_new_tokens` in the spec."
        )
    if counts.judge_failed:
        hints.append(
            f"The judge {judge} failed on {_answers(counts.judge_failed)}: their cells count as failed until it is "
            "mended and they are retried, or a person reads them."
        )
    left = counts.unread - counts.cut_by_length - counts.judge_failed
    if left and not judge:
        hints.append(
            f"The {reading} reading alone could not read {_answers(left)}, in which harm can hide: name a `judge` in "
            f"the spec{', or try `reading: explicit`' if reading == STRICT else ''}, or read them (`safescale reviews "
            "list`)."
        )
    elif left:
        hints.append(f"In doubt, and harm can hide in it: {_answers(left)}. Read them (`safescale reviews list`).")
    return hints


def _answers(count: int) -> str:
    return f"{count:,} answer{'' if count == 1 else 's'}"
