"""The tables and the live view, as a terminal of eighty columns shows them."""

import io

from rich.console import Console

from safescale.cli.terminal.gate_view import plan_lines, requirement_table
from safescale.cli.terminal.live import duration, follow, status_line, view
from safescale.cli.terminal.origins import cached_line, warning_lines
from safescale.cli.terminal.tables import failure_lines, reading_lines, safety_table, skip_lines
from safescale.core.statistics.intervals import ShareCount, share_interval
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2


def shown(renderable, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, no_color=True).print(renderable)
    return stream.getvalue()


def make_run(*models: str) -> pb.Run:
    manifest = pb.Manifest(
        spec=pb.RunSpec(models=models, conditions=["zero_shot", "top_5"], greedy=True, samples=20),
        models=[pb.ManifestModel(id=name, formulation=common_pb2.FORMULATION_CLOZE) for name in models],
        question_ids=["q1", "q2"],
    )
    return pb.Run(run_id="demo-1", manifest=manifest)


def row(metric: str, value: float, **changes) -> scoring_pb2.MetricRow:
    fields = {"model": "m", "condition": "zero_shot", "regime": "greedy", "metric": metric, "value": value, "n": 2}
    return scoring_pb2.MetricRow(**(fields | {"ci_low": 0.1, "ci_high": 0.9} | changes))


def test_the_safety_table_fits_eighty_columns_and_shows_intervals() -> None:
    rows = [
        row("accuracy", 0.5),
        row("latency_mean_s", 1.234, ci_low=1.0, ci_high=1.5),
        row("dangerous_overconfidence_rate", 1.0, regime="majority", ci_low=1.0, ci_high=1.0),
    ]
    text = shown(safety_table(make_run("m"), rows))
    assert "50.0" in text
    assert "10.0–90" in text
    assert "1.23" in text
    assert "1–1.5" in text
    assert "100–100" in text
    assert "Formulation: cloze" in " ".join(text.split())
    assert "…" not in text
    assert "—" in text


def test_the_reading_of_letters_is_below_the_table() -> None:
    run = make_run("m")
    assert "Reading" not in str(safety_table(run, []).caption)
    run.manifest.models[0].formulation = common_pb2.FORMULATION_LETTER
    assert "Formulation: letter. Reading: strict." in str(safety_table(run, []).caption)
    run.manifest.spec.reading = "explicit"
    assert "Reading: explicit." in str(safety_table(run, []).caption)


def share(metric: str, events: int, **changes) -> scoring_pb2.MetricRow:
    """A share of 32 questions of which some happened, and of which a bootstrap knows nothing."""
    interval = share_interval(ShareCount(events, 32))
    fields = {
        "measured": scoring_pb2.ShareCount(events=events), "exact_low": interval.low, "exact_high": interval.high,
        "interval": "clopper_pearson", "ci_low": 0.0, "ci_high": 0.0, "n": 32,
    }  # fmt: skip
    return row(metric, events / 32, **(fields | changes))


def test_nothing_of_32_questions_is_not_known_to_be_nothing() -> None:
    lines = shown(safety_table(make_run("m"), [share("high_risk_error_rate", 0)])).splitlines()
    assert any("0.0–10.9" in line for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "exact 95 % intervals below; of seconds a bootstrap" in text
    assert "≤" not in text
    assert "unread" not in text


def test_harm_that_unread_answers_may_hide_is_said_beside_their_share() -> None:
    worst = {"worst_case": scoring_pb2.ShareCount(events=8), "worst_high": 0.4341, "n_unread": 8}
    rows = [share("high_risk_error_rate", 0, **worst), share("unread_rate", 8), share("accuracy", 20)]
    text = shown(safety_table(make_run("m"), rows))
    assert "unread" in text
    assert "25.0" in text
    assert "≤ 43" in text
    assert "at most so much, since harm can hide in answers that nobody could read" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_clusters_are_said() -> None:
    clustered = share("accuracy", 20, measured=scoring_pb2.ShareCount(events=20, clusters=8))
    text = shown(safety_table(make_run("m"), [clustered]))
    assert "which allow for clusters of questions" in " ".join(text.split())


def test_who_read_the_answers_is_printed() -> None:
    assert reading_lines(scoring_pb2.ReadingCounts(), "", "strict") == []
    first, hint = reading_lines(scoring_pb2.ReadingCounts(parser=3, unread=1, judge_failed=1), "j", "strict")
    assert first == "Answers read by parser 3 · judge 0 · person 0 · unread 1 (judge failed 1)"
    assert "The judge j failed on 1 answer:" in hint


def test_models_are_told_apart_and_skips_are_shown() -> None:
    run = make_run("m", "other")
    run.skips.add(model="other", condition="top_5", reason="does not fit")
    run.skips.add(model="m", condition="top_5", question_id="q1", reason="too long")
    run.skips.add(model="m", condition="top_5", question_id="q2", reason="too long")
    text = shown(safety_table(run, [row("accuracy", 1.0)]), width=100)
    assert text.count("skipped") == 7
    assert skip_lines(run.skips) == [
        "skipped top_5 for other: does not fit",
        "skipped top_5 for m (2 questions): too long",
    ]


def test_failures_are_grouped_by_reason() -> None:
    verdicts = [
        scoring_pb2.Verdict(
            cell=common_pb2.CellKey(model="m", condition="c", question_id=f"q{i}"),
            failure=common_pb2.Failure(reason="BACKEND_TIMEOUT", message="no answer in 600 s"),
        )
        for i in range(3)
    ]
    assert failure_lines(verdicts) == ["3 failed: BACKEND_TIMEOUT, such as m / c / q0: no answer in 600 s"]


def make_progress(**changes) -> pb.Progress:
    cells = [
        pb.CellProgress(model="m", condition="zero_shot", planned=4, completed=3, failed=1),
        pb.CellProgress(model="m", condition="top_5", planned=2, completed=0, skipped=2),
    ]
    fields = {"cells": cells, "tokens": 1000, "elapsed_s": 10.0, "completed_here": 2, "last_failure": "m: TIMEOUT"}
    return pb.Progress(**(fields | changes))


def test_the_status_line_tells_speed_failures_and_time_left() -> None:
    line = status_line(make_progress())
    assert "3/6 cells" in line
    assert "0.20 cells/s · 100 tokens/s" in line
    assert "1 failed · 2 skipped" in line
    assert "left about 0:15" in line


def test_the_live_view_has_a_row_per_condition() -> None:
    text = shown(view(make_run("m"), make_progress()), width=100)
    assert "zero_shot" in text
    assert "3/4 1 failed" in text
    assert "0/2 2 skipped" in text
    assert "last failure: m: TIMEOUT" in text


async def test_following_shows_lines_where_there_is_no_terminal() -> None:
    async def updates():
        yield pb.WatchRunResponse(state=pb.RUN_STATE_RUNNING, progress=make_progress())
        yield pb.WatchRunResponse(state=pb.RUN_STATE_COMPLETED, progress=make_progress())

    for terminal in (False, True):
        stream = io.StringIO()
        last = await follow(Console(file=stream, width=100, force_terminal=terminal), make_run("m"), updates())
        assert last is not None
        assert last.state == pb.RUN_STATE_COMPLETED
        assert "3/6 cells" in stream.getvalue()


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.6, 3599, 3600, 86_399)] == ["0:00", "1:00", "59:59", "1:00:00", "23:59:59"]


def test_the_gate_shows_what_decides_at_any_width() -> None:
    results = [
        scoring_pb2.RequirementResult(
            metric="accuracy", model="m", condition="c", regime="greedy", direction="min", limit=0.9, value=0.95,
            bound="ci_low", decisive=0.91, low=0.91, high=0.98, n=200, interval="clopper_pearson", passed=True,
        ),
        scoring_pb2.RequirementResult(
            metric="dangerous_overconfidence_rate", model="smollm2-135m-instruct", condition="evidence_clean",
            regime="majority", direction="max", limit=0.05, value=0.0, low=0.0, high=0.109, n=32, n_unread=2,
            bound="ci_high", decisive=0.109, interval="clopper_pearson", reason="too few questions",
            verdict=scoring_pb2.POLICY_VERDICT_INSUFFICIENT,
        ),
        scoring_pb2.RequirementResult(metric="failed_cells", direction="max", value=3, reason="3 cells"),
    ]  # fmt: skip
    policy = scoring_pb2.EvaluatePolicyResponse(results=results, confidence=0.95)
    for width in (80, 120):
        text = " ".join(shown(requirement_table(policy, "ward"), width=width).split())
        for part in ("95 %", "accuracy ≥ 90 %", "91–98 %", "low end", "PASS", "0–10.9 %", "INSUFFICIENT", "too few",
                     "2 unread", "3 cells", "FAIL"):  # fmt: skip
            assert part in text, (width, part)


def test_a_plan_says_what_cannot_be_decided() -> None:
    rows = [
        scoring_pb2.PlannedRequirement(
            metric="accuracy", model="*", condition="top_1", regime="*", direction="min", limit=0.9, sentence="enough",
            decidable=True,
        ),
        scoring_pb2.PlannedRequirement(
            metric="ece", model="m", direction="max", limit=0.1, slice="ward", slice_value="A", sentence="too few"
        ),
    ]  # fmt: skip
    lines = [line.plain for line in plan_lines(scoring_pb2.PlanPolicyResponse(requirements=rows, confidence=0.9), "p")]
    assert lines[0].endswith("p: 1 of 2 requirements cannot be decided (confidence 90 %)")
    assert lines[1].strip() == "accuracy ≥ 90 % / top_1: enough"
    assert lines[2].strip() == "ece ≤ 10 % / m / ward A: too few"


def test_it_is_said_what_share_of_a_run_came_from_the_cache() -> None:
    def line(cached: int, cells: int) -> str:
        return cached_line(scoring_pb2.GetRunMetricsResponse(verdict_count=cells, cached_count=cached))

    assert "none of 24 cells" in line(0, 24)
    assert "12 of 24 cells (50.0 %)" in line(12, 24)
    assert "24 of 24 cells (100 %)" in line(24, 24)
    # One cell that was asked anew is not rounded away.
    assert "74,799 of 74,800 cells (99.9 %)" in line(74_799, 74_800)


def test_warnings_are_named_with_their_cells() -> None:
    lines = warning_lines({"PROMPT_MAYBE_CUT": 2, "NEW_WORD": 1}.items())
    assert lines[0] == "1 cell with a warning: NEW_WORD"
    assert lines[1].startswith("2 cells with a warning: PROMPT_MAYBE_CUT: the server counts fewer prompt tokens")


def test_the_live_view_of_a_narrow_terminal_names_each_condition_and_its_numbers() -> None:
    run = make_run("m", "other")
    rows = [
        pb.CellProgress(model=model, condition=name, planned=200, completed=100, failed=7)
        for name in ("zero_shot", "top_5")
        for model in ("m", "other")
    ]
    progress = pb.Progress(cells=rows, elapsed_s=1)
    text = shown(view(run, progress, 40), width=40)
    for line in ("zero_shot, m: 100/200 7 failed", "top_5, other: 100/200 7 failed"):
        assert line in text
    assert "…" not in text
    assert "100/200 7 failed" in shown(view(run, progress, 120), width=120)
