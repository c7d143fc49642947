"""From verdicts to the tables of a safety run."""

from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question
from safescale.core.safety.tables.analysis import TABLES
from safescale.core.tables import Table
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.clients import RunTruth
from safescale.scoring.kinds.port import MeasuredRun
from safescale.scoring.kinds.safety_tables import NAMES, safety_tables, scored_cell

LABELS = {"A": OptionLabels(True, True, False), "B": OptionLabels(False, False, False)}
BANK = Benchmark("b", tuple(Question(f"q{n}", "t", {"A": "a", "B": "b"}, "B", "", "", labels=LABELS) for n in (1, 2)))
FAILURE = common_pb2.Failure(reason="JUDGE_FAILED", message="down")
READ, UNREAD = pb.Reading(letter="A", read_by="parser"), pb.Reading(review_reason="JUDGE_FAILED")
HARM, NONE = pb.Outcome(high_risk_error=True, unsafe_answer=True), pb.Outcome(abstention=True)


def verdict(question: str, greedy: pb.Reading, outcome: pb.Outcome, **fields) -> pb.Verdict:
    return pb.Verdict(
        cell=common_pb2.CellKey(run_id="r", model="m", condition="zero_shot", question_id=question),
        greedy=greedy, greedy_outcome=outcome, greedy_asked=True, samples_asked=2, attempt=1,
        **{"formulation": common_pb2.FORMULATION_LETTER} | fields,
    )  # fmt: skip


VERDICTS = (
    verdict("q1", READ, HARM, samples=[UNREAD, READ], failure=FAILURE, cached=True, warnings=["ODD", "ODD"]),
    verdict("q2", UNREAD, NONE, samples=[READ, READ], failure=FAILURE, timings=common_pb2.Timings(greedy_s=1.5)),
)


def tables(*verdicts: pb.Verdict, wanted=NAMES, ensembles=()) -> dict[str, Table]:
    model = orchestration_pb2.ManifestModel(
        id="m", family="f", parameters_b=1.0, formulation=common_pb2.FORMULATION_LETTER
    )
    spec = orchestration_pb2.RunSpec(
        name="n", models=["m"], conditions=["zero_shot"], greedy=True, samples=2, ensembles=ensembles
    )
    manifest = orchestration_pb2.Manifest(spec=spec, models=[model], question_ids=["q1", "q2"])
    run = orchestration_pb2.Run(run_id="r", state=orchestration_pb2.RUN_STATE_COMPLETED, manifest=manifest)
    truth = RunTruth(manifest, BANK, {question.question_id: question for question in BANK.questions})
    made = safety_tables(MeasuredRun(run, truth), [scored_cell(one) for one in verdicts], wanted)
    return {table.name: table for table in made}


def test_all_tables_come_in_their_order() -> None:
    assert tuple(tables(*VERDICTS)) == NAMES
    assert list(tables(*VERDICTS, wanted={"latency", "metrics"})) == ["metrics", "latency"]


def test_harm_that_was_read_counts_though_the_judge_failed() -> None:
    rows = tables(*VERDICTS)["metrics"].rows()
    chosen = [row for row in rows if (row["metric"], row["regime"]) == ("high_risk_error_rate", "greedy")]
    assert [row["value"] for row in chosen] == [0.5]


def test_harm_that_was_read_is_not_shown_as_a_failure() -> None:
    found = tables(*VERDICTS)
    answers = [(row["greedy_letter"], row["high_risk_error"], row["failed"]) for row in found["answers"].rows()]
    assert answers == [("A", True, False), (None, False, True)]
    assert [(row["question_id"], row["reason"], row["message"]) for row in found["failed_cells"].rows()] == [
        ("q1", "JUDGE_FAILED", "down"), ("q2", "JUDGE_FAILED", "down"),
    ]  # fmt: skip


def test_readings_are_a_table() -> None:
    (row,) = tables(*VERDICTS)["readings"].rows()
    assert (row["formulation"], row["model"], row["condition"]) == ("letter", "m", "zero_shot")
    assert (row["parser"], row["judge"], row["unread"], row["judge_failed"]) == (4, 0, 2, 2)
    assert row["reading"] == "strict"


def test_what_is_of_the_whole_run_is_in_tables_too() -> None:
    found = tables(VERDICTS[0])
    assert list(found["summary"].rows()) == [
        {
            "complete": False,
            "n_planned": 2,
            "n_verdicts": 1,
            "n_failed": 1,
            "n_skipped": 0,
            "n_cached": 1,
            "reading": "strict",
        }
    ]
    assert [row["sentence"] for row in found["missing"].rows()] == [
        "m under zero_shot: 1 of 2 questions have no verdict: q2."
    ]
    assert list(found["missing_cells"].rows()) == [{"model": "m", "condition": "zero_shot", "question_id": "q2"}]
    assert list(found["warnings"].rows()) == [{"warning": "ODD", "n_cells": 1}]
    (row,) = found["completeness"].rows()
    assert [row[name] for name in ("n_cells", "n_verdicts", "n_failed", "n_skipped", "n_missing")] == [2, 1, 1, 0, 1]


def test_an_ensemble_without_a_vote_is_said_though_nothing_is_missing() -> None:
    ensemble = orchestration_pb2.Ensemble(name="panel", members=["m", "other"])
    found = tables(*VERDICTS, wanted={"missing", "summary"}, ensembles=[ensemble])
    (row,) = found["missing"].rows()
    assert row["sentence"].startswith("The ensemble panel has no vote under zero_shot: ")
    assert found["summary"].columns["complete"].tolist() == [True]


def test_formulations_are_analysed_apart_and_told_by_a_column() -> None:
    cloze = verdict("q2", READ, HARM, formulation=common_pb2.FORMULATION_CLOZE)
    metrics = tables(VERDICTS[0], cloze)["metrics"]
    assert list(dict.fromkeys(metrics.columns["formulation"])) == ["letter", "cloze"]
    assert {row["n"] for row in metrics.rows() if row["metric"] == "accuracy"} == {1}


def test_without_verdicts_there_is_no_analysis_and_all_is_missing() -> None:
    found = tables()
    assert not set(found) & set(TABLES)
    assert found["summary"].columns["n_verdicts"].tolist() == [0]
    assert [row["n_missing"] for row in found["completeness"].rows()] == [2]
    assert len(found["answers"]) == len(found["latency"]) == 0


def test_a_verdict_without_its_question_is_not_measured_and_said() -> None:
    found = tables(VERDICTS[0], verdict("gone", READ, HARM))
    assert {row["n"] for row in found["metrics"].rows() if row["metric"] == "accuracy"} == {1}
    assert len(found["answers"]) == 2
    assert any("gone" in row["sentence"] or "does not have" in row["sentence"] for row in found["missing"].rows())
