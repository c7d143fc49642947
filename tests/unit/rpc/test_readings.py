import pytest

from safescale.rpc.readings import READERS, counts_of, mark_of, marks_of, readings_line, unread_hints
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


@pytest.mark.parametrize(
    ("reading", "counted"),
    [
        (pb.Reading(letter="B", read_by="parser"), {"parser": 1}),
        (pb.Reading(read_by="judge", review_reason="NO_ANSWER"), {"judge": 1}),
        (pb.Reading(letter="B", read_by="person", review_reason="JUDGE_FAILED"), {"person": 1}),
        (pb.Reading(letter="B", read_by="scores"), {"scores": 1}),
        (pb.Reading(review_reason="NO_ANSWER"), {"unread": 1}),
        (pb.Reading(review_reason="JUDGE_FAILED"), {"unread": 1, "judge_failed": 1}),
        (pb.Reading(parsed_letter="B", review_reason="CUT_BY_LENGTH"), {"unread": 1, "cut_by_length": 1}),
        # A reader that a newer version knows is none here.
        (pb.Reading(letter="B", read_by="oracle"), {"unread": 1}),
    ],
)
def test_an_answer_counts_once(reading: pb.Reading, counted: dict[str, int]) -> None:
    assert counts_of([mark_of(reading)]) == pb.ReadingCounts(**counted)
    assert marks_of(pb.Verdict(greedy=reading, samples=[reading] * 2)) == (mark_of(reading), mark_of(reading) * 2)


def test_a_cell_without_answers_has_no_readers() -> None:
    assert marks_of(pb.Verdict(greedy_asked=True, samples_asked=3)) == ("", "")
    assert counts_of(["", ""]) == pb.ReadingCounts()


def test_every_count_is_told() -> None:
    assert set(READERS) == {field.name for field in pb.ReadingCounts.DESCRIPTOR.fields}
    counts = pb.ReadingCounts(parser=1200, judge=3, unread=5, judge_failed=2, cut_by_length=1)
    assert readings_line(counts) == (
        "read by parser 1,200 · judge 3 · person 0 · unread 5 (judge failed 2, cut by length 1)"
    )
    assert readings_line(pb.ReadingCounts(scores=4)).endswith("person 0 · option scores 4 · unread 0")


def test_what_can_be_done_about_unread_answers_is_said() -> None:
    assert unread_hints(pb.ReadingCounts(parser=9, person=1), "") == []
    (alone,) = unread_hints(pb.ReadingCounts(unread=3), "")
    assert "3 answers" in alone
    assert "The strict reading alone" in alone
    assert "name a `judge`" in alone
    assert "`reading: explicit`" in alone
    (alone,) = unread_hints(pb.ReadingCounts(unread=3), "", "explicit")
    assert "The explicit reading alone" in alone
    assert "`reading: explicit`" not in alone
    cut, failed, doubt = unread_hints(pb.ReadingCounts(unread=6, judge_failed=2, cut_by_length=1), "j")
    assert "max_new_tokens" in cut
    assert "The judge j failed on 2 answers" in failed
    assert "1 answer." in cut
    assert doubt.startswith("In doubt, and harm can hide in it: 3 answers.")
