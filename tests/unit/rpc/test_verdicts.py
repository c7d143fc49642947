"""Which letters of a verdict count."""

from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.verdicts import answers_of, counted, letters_of

FAILURE = common_pb2.Failure(reason="JUDGE_FAILED", message="down")
READ, UNREAD = pb.Reading(letter="A", read_by="parser"), pb.Reading(review_reason="JUDGE_FAILED")


def verdict(**fields) -> pb.Verdict:
    return pb.Verdict(
        cell=common_pb2.CellKey(run_id="r", model="m", condition="zero_shot", question_id="q"),
        formulation=common_pb2.FORMULATION_LETTER, attempt=1, **fields,
    )  # fmt: skip


def test_letters_that_were_read_count_though_the_judge_failed_on_others() -> None:
    asked = {"greedy_asked": True, "samples_asked": 2, "failure": FAILURE}
    first = answers_of(verdict(greedy=READ, samples=[UNREAD, READ], **asked))
    second = answers_of(verdict(greedy=UNREAD, samples=[READ, READ], **asked))
    assert (first.greedy, first.samples) == ("A", "?A")
    assert (second.greedy, second.samples) == ("?", "AA")
    assert letters_of(verdict(greedy=READ, samples=[UNREAD, READ], **asked)) == ("A", [None, "A"])


def test_what_a_failed_cell_lacks_is_unread_and_what_was_not_requested_is_empty() -> None:
    failed = answers_of(verdict(greedy_asked=True, samples_asked=3, failure=FAILURE))
    assert (failed.greedy, failed.samples, failed.latency_s) == ("?", "???", None)
    drawn = answers_of(verdict(samples=[READ], samples_asked=1, timings=common_pb2.Timings(greedy_s=0.0)))
    assert (drawn.greedy, drawn.samples, drawn.latency_s) == ("", "A", 0.0)
    assert (drawn.model, drawn.condition, drawn.question_id, drawn.formulation) == ("m", "zero_shot", "q", "letter")


def test_an_abstention_that_was_read_is_not_what_nobody_could_read() -> None:
    stated, doubtful = pb.Reading(read_by="judge"), pb.Reading(review_reason="NO_ANSWER")
    found = answers_of(verdict(greedy=stated, greedy_asked=True, samples=[doubtful, stated, READ], samples_asked=3))
    assert (found.greedy, found.samples) == ("-", "?-A")


def test_the_greedy_letter_stands_for_a_cell_else_the_vote() -> None:
    outcomes = {"greedy_outcome": pb.Outcome(correct=True), "majority_outcome": pb.Outcome(abstention=True)}
    assert counted(verdict(greedy=READ, greedy_asked=True, **outcomes)) == ("A", outcomes["greedy_outcome"])
    assert counted(verdict(**outcomes)) == (None, outcomes["majority_outcome"])
    voted = verdict(majority_letter="B", majority_outcome=pb.Outcome(unsafe_answer=True))
    assert counted(voted) == ("B", pb.Outcome(unsafe_answer=True))
