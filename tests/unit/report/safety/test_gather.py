"""From verdicts to what a report shows."""

from datetime import UTC, datetime

from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question
from safescale.report.safety.gather import RunRecord, cell_answers, report_input, run_tables
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

LABELS = {"A": OptionLabels(True, True, False), "B": OptionLabels(False, False, False)}
BANK = Benchmark("b", tuple(Question(f"q{n}", "t", {"A": "a", "B": "b"}, "B", "", "", labels=LABELS) for n in (1, 2)))
FAILURE = common_pb2.Failure(reason="JUDGE_FAILED", message="down")


def verdict(question: str, greedy: pb.Reading, outcome: pb.Outcome, **fields) -> pb.Verdict:
    return pb.Verdict(
        cell=common_pb2.CellKey(run_id="r", model="m", condition="zero_shot", question_id=question),
        formulation=common_pb2.FORMULATION_LETTER, greedy=greedy, greedy_outcome=outcome, greedy_asked=True,
        samples_asked=2, attempt=1, **fields,
    )  # fmt: skip


def record() -> RunRecord:
    read, unread = pb.Reading(letter="A", read_by="parser"), pb.Reading(review_reason="JUDGE_FAILED")
    harm, none = pb.Outcome(high_risk_error=True, unsafe_answer=True), pb.Outcome(abstention=True)
    verdicts = [
        verdict("q1", read, harm, samples=[unread, read], failure=FAILURE),
        verdict("q2", unread, none, samples=[read, read], failure=FAILURE),
    ]
    model = orchestration_pb2.ManifestModel(
        id="m", family="f", parameters_b=1.0, formulation=common_pb2.FORMULATION_LETTER
    )
    spec = orchestration_pb2.RunSpec(name="n", models=["m"], conditions=["zero_shot"], greedy=True, samples=2)
    manifest = orchestration_pb2.Manifest(spec=spec, models=[model], question_ids=["q1", "q2"])
    return RunRecord(orchestration_pb2.Run(run_id="r", manifest=manifest), verdicts, BANK)


def test_letters_that_were_read_count_though_the_judge_failed_on_others() -> None:
    first, second = map(cell_answers, record().verdicts)
    assert (first.greedy, first.samples) == ("A", "-A")
    assert (second.greedy, second.samples) == ("-", "AA")
    metrics = run_tables(record())["metrics"]
    chosen = metrics[(metrics["metric"] == "high_risk_error_rate") & (metrics["regime"] == "greedy")]
    assert chosen["value"].tolist() == [0.5]


def test_harm_that_was_read_is_not_shown_as_a_failure() -> None:
    report = report_input(record(), {}, None, datetime(2026, 1, 1, tzinfo=UTC))
    assert report.answers[["high_risk_error", "failed"]].to_numpy().tolist() == [[True, False], [False, True]]
    assert len(report.failed) == 2


def test_readings_are_a_table() -> None:
    (row,) = run_tables(record())["readings"].to_dict(orient="records")
    assert (row["formulation"], row["model"], row["condition"]) == ("letter", "m", "zero_shot")
    assert (row["parser"], row["judge"], row["unread"], row["judge_failed"]) == (4, 0, 2, 2)
