import json

import pytest

from safescale.core.inputs.records import Source
from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question
from safescale.core.safety.benchmark.formats import check_benchmark
from safescale.formats.verdicts import answer_rows, judged_export, published_ids, verdict_record, verdict_row
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


def question(identifier: str) -> Question:
    labels = {"A": OptionLabels(True, True, False), "B": OptionLabels(False, False, True)}
    return Question(identifier, "t", {"A": "a", "B": "b"}, "B", "chest", "diagnosis", labels=labels)


BANK = Benchmark("bank", (question("chest-2"), question("chest-10")))


def verdict(identifier: str = "chest-2", **changes) -> pb.Verdict:
    fields = {
        "cell": common_pb2.CellKey(run_id="r", model="m", condition="zero_shot", question_id=identifier),
        "formulation": common_pb2.FORMULATION_LETTER,
        "greedy": pb.Reading(letter="A", parsed_letter="A", text="A"),
        "samples": [pb.Reading(letter="B", text="It is B", seed=3), pb.Reading(text="?", review_reason="NO_ANSWER")],
        "greedy_outcome": pb.Outcome(high_risk_error=True, unsafe_answer=True),
        "timings": common_pb2.Timings(greedy_s=1.5),
        "attempt": 1,
        "greedy_asked": True,
        "samples_asked": 2,
    }
    return pb.Verdict(**(fields | changes))


FAILED = {
    "greedy": None,
    "samples": [],
    "timings": common_pb2.Timings(),
    "failure": common_pb2.Failure(reason="BACKEND_TIMEOUT", message="late"),
}


def test_a_row_per_verdict_and_per_answer() -> None:
    row = verdict_row(verdict())
    assert (row["greedy_letter"], row["greedy_high_risk_error"], row["greedy_s"]) == ("A", True, 1.5)
    assert row["samples_s"] is None
    assert row["failure_reason"] is None
    rows = answer_rows(verdict())
    assert [(r["kind"], r["sample_index"], r["seed"], r["letter"]) for r in rows] == [
        ("greedy", None, None, "A"), ("sample", 0, 3, "B"), ("sample", 1, None, None),
    ]  # fmt: skip


def test_a_failed_cell_keeps_its_reason_and_has_no_time() -> None:
    row = verdict_row(verdict(**FAILED))
    assert (row["failure_reason"], row["greedy_letter"], row["greedy_s"]) == ("BACKEND_TIMEOUT", None, None)
    assert answer_rows(verdict(**FAILED)) == []
    assert verdict_record(verdict(**FAILED))["failure"]["message"] == "late"


def test_the_judged_layout() -> None:
    judged = judged_export([verdict(), verdict("chest-10", **FAILED)], BANK)
    assert judged.published_ids == {"chest-10": "risk_radiorag_1", "chest-2": "risk_radiorag_2"}
    records = {record["question_id"]: record for record in judged.answers["m"]}
    answered = records["risk_radiorag_2"]
    assert (answered["correct_answer"], answered["formulation"]) == ("B", "letter")
    greedy = answered["conditions"]["zero_shot"]["greedy"]
    assert (greedy["parsed_answer"], greedy["elapsed_s"], greedy["error"]) == ("A", 1.5, None)
    drawn = answered["conditions"]["zero_shot"]["stochastic"]["checked_answers"]
    assert [each["confirmed_answer"] for each in drawn] == ["B", None]
    failed = records["risk_radiorag_1"]["conditions"]["zero_shot"]
    assert failed["greedy"]["error"] == "BACKEND_TIMEOUT: late"
    assert failed["greedy"]["elapsed_s"] is None
    assert [each["confirmed_answer"] for each in failed["stochastic"]["checked_answers"]] == [None, None]
    label = {record["question_id"]: record for record in judged.labels}[2]
    assert (label["answer_idx"], label["option_1_high_risk"], label["option_2_contradicts"]) == ("B", 1, 1)


def test_who_read_an_answer_is_in_the_tables() -> None:
    samples = [
        pb.Reading(letter="B", read_by="judge"),
        pb.Reading(review_reason="CUT_BY_LENGTH", finish_reason="length"),
    ]
    failed = pb.Reading(review_reason="JUDGE_FAILED", judge=pb.JudgeReading(failure="the judge could not be asked"))
    one = verdict(greedy=failed, samples=samples)
    row = verdict_row(one)
    assert (row["greedy_read_by"], row["unread_answers"]) == (None, 2)
    rows = answer_rows(one)
    assert [(r["read_by"], r["judge_failure"], r["finish_reason"]) for r in rows] == [
        (None, "the judge could not be asked", None), ("judge", None, None), (None, None, "length"),
    ]  # fmt: skip


def test_what_was_read_of_a_cell_whose_judge_failed_is_no_error() -> None:
    failure = common_pb2.Failure(reason="JUDGE_FAILED", message="down")
    read, unread = pb.Reading(letter="A", read_by="parser"), pb.Reading(review_reason="JUDGE_FAILED")
    judged = judged_export([verdict(greedy=read, samples=[unread, read], failure=failure)], BANK)
    record = judged.answers["m"][0]["conditions"]["zero_shot"]
    assert (record["greedy"]["error"], record["greedy"]["checked_answer"]["confirmed_answer"]) == (None, "A")
    assert record["stochastic"]["error"] == "JUDGE_FAILED: down"
    assert [each["confirmed_answer"] for each in record["stochastic"]["checked_answers"]] == [None, "A"]


def test_greedy_that_was_not_asked_is_left_out() -> None:
    judged = judged_export([verdict(greedy=None, greedy_asked=False)], BANK)
    assert "greedy" not in judged.answers["m"][0]["conditions"]["zero_shot"]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["risk_radiorag_7"], {"risk_radiorag_7": "risk_radiorag_7"}),
        (["b", "risk_radiorag_2"], {"b": "risk_radiorag_1", "risk_radiorag_2": "risk_radiorag_2"}),
        (["b", "a"], {"a": "risk_radiorag_1", "b": "risk_radiorag_2"}),
    ],
)
def test_published_ids_are_kept_or_numbered(ids, expected) -> None:
    assert published_ids(ids) == expected


def test_labels_that_nobody_gave_are_not_exported_as_harmless() -> None:
    bare = Question("risk_radiorag_1", "t", {"A": "a", "B": "b"}, "B")
    verdict = pb.Verdict(
        cell=common_pb2.CellKey(run_id="r", model="m", condition="zero_shot", question_id="risk_radiorag_1"),
        formulation=common_pb2.FORMULATION_LETTER,
        greedy_asked=True,
        greedy=pb.Reading(letter="A"),
        greedy_outcome=pb.Outcome(unlabelled=True),
    )
    (label,) = judged_export([verdict], Benchmark("b", (bare,))).labels
    assert not [name for name in label if name.startswith("option_")]
    read = check_benchmark("b", [Source("labels.json", json.dumps([label]).encode())]).benchmark
    assert read is not None
    assert not read.labelled
    row = verdict_row(verdict)
    assert row["greedy_correct"] is False
    assert (row["greedy_high_risk_error"], row["greedy_unsafe_answer"], row["greedy_contradiction"]) == (
        None,
        None,
        None,
    )
