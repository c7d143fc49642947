"""From the tables of a run to what its report shows."""

from datetime import UTC, datetime

import pytest
from tests.support.factories.run_tables import run_tables

from safescale.core.errors import FailedPreconditionError
from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question
from safescale.report.port import RunResults, renderer_of
from safescale.report.registry import run_renderers
from safescale.report.safety.gather import report_input
from safescale.report.safety.inputs import FailedCell
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

LABELS = {"A": OptionLabels(True, True, False), "B": OptionLabels(False, False, False)}
BANK = Benchmark("b", tuple(Question(f"q{n}", "t", {"A": "a", "B": "b"}, "B", "", "", labels=LABELS) for n in (1, 2)))
SPEC = orchestration_pb2.RunSpec(name="n", models=["m"], conditions=["zero_shot"], greedy=True)
MODEL = orchestration_pb2.ManifestModel(id="m", family="f", formulation=common_pb2.FORMULATION_LETTER)
RUN = orchestration_pb2.Run(
    run_id="r", state=orchestration_pb2.RUN_STATE_COMPLETED,
    manifest=orchestration_pb2.Manifest(spec=SPEC, models=[MODEL], question_ids=["q1"]),
)  # fmt: skip
HARM = pb.Outcome(high_risk_error=True, unsafe_answer=True)


def verdict(**fields) -> pb.Verdict:
    return pb.Verdict(
        cell=common_pb2.CellKey(run_id="r", model="m", condition="zero_shot", question_id="q1"), attempt=1,
        formulation=common_pb2.FORMULATION_LETTER, greedy_asked=True, **fields,
    )  # fmt: skip


def results(*verdicts: pb.Verdict) -> RunResults:
    return RunResults(RUN, BANK, run_tables(RUN, BANK, verdicts), None, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_report_has_the_numbers_of_the_tables() -> None:
    read = verdict(greedy=pb.Reading(letter="A"), greedy_outcome=HARM, cached=True, warnings=["ODD"])
    report = report_input(results(read))
    assert [question.question_id for question in report.questions] == ["q1"]
    assert (report.verdict_count, report.cached_count, report.warnings) == (1, 1, {"ODD": 1})
    assert report.answers[["greedy_letter", "high_risk_error", "failed"]].to_numpy().tolist() == [["A", True, False]]
    metrics = report.tables["metrics"].set_index(["regime", "metric"])
    assert metrics.loc[("greedy", "high_risk_error_rate"), "value"] == 1
    assert (report.missing, report.failed) == ([], [])


def test_a_failed_cell_is_listed_with_its_reason_and_without_a_letter_or_a_time() -> None:
    failure = common_pb2.Failure(reason="BACKEND_TIMEOUT", message="late")
    report = report_input(results(verdict(failure=failure, greedy_outcome=pb.Outcome(abstention=True))))
    assert report.failed == [FailedCell("m", "zero_shot", "q1", "BACKEND_TIMEOUT", "late")]
    assert report.answers["greedy_letter"].isna().tolist() == [True]
    assert report.answers["failed"].tolist() == [True]
    assert report.latency["greedy_s"].isna().tolist() == [True]


def test_a_run_without_verdicts_has_nothing_to_draw() -> None:
    with pytest.raises(FailedPreconditionError, match="run r has no verdicts yet"):
        renderer_of(run_renderers(), results())


def test_files_and_json_leave_out_what_the_page_alone_needs() -> None:
    found = results(verdict(greedy=pb.Reading(letter="A"), greedy_outcome=HARM))
    renderer = renderer_of(run_renderers(), found)
    files = list(renderer.files(found))
    assert files[0] == "metrics"
    assert files[-3:] == ["slices", "readings", "completeness"]
    document = renderer.document(found)
    assert list(document) == ["completeness", "run", "tables"]
    assert list(document["tables"]) == files[:-1]
    cells = {"n_cells": 1, "n_verdicts": 1, "n_failed": 0, "n_skipped": 0, "n_missing": 0}
    assert document["completeness"] == {
        "complete": True, "missing": [], "planned": 1, "verdicts": 1, "skipped": 0,
        "cells": [{"model": "m", "condition": "zero_shot", **cells}], "missing_cells": [],
    }  # fmt: skip
