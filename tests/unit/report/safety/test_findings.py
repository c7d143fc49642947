"""Numbers as words, and the findings: each is checked against the tables it was made of."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.report.safety.findings import (
    half_count,
    interval,
    joined,
    p_text,
    percent,
    points,
    seconds,
    summary_lines,
)
from safescale.report.safety.inputs import ReportInput

Make = Callable[..., ReportInput]


def plain(lines: list[str]) -> str:
    return "\n".join(lines).replace("\u00a0", " ").replace("\u2212", "-")


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (percent(0.125), "12.5\u00a0%"), (percent(math.nan), "–"), (points(-0.05), "\u22125.0 points"),
        (points(0.0), "+0.0 points"), (seconds(0.12345), "0.123\u00a0s"), (p_text(0.00001), "< 0.0001"),
        (p_text(0.0042), "0.0042"), (p_text(1.0), "1.000"), (interval(math.nan, 1.0), ""),
        (interval(-0.1, 0.2), "[\u221210.0,\u00a020.0]"), (joined([]), ""), (joined(["a", "b", "c"]), "a, b and c"),
    ],
)  # fmt: skip
def test_formats(shown: str, wanted: str) -> None:
    assert shown == wanted


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_half_is_carried_by_the_fewest_questions(counts: list[int]) -> None:
    found = half_count(pd.Series(counts))
    falling = sorted(counts, reverse=True)
    total = sum(counts)
    if not total:
        assert found == 0
        return
    assert 2 * sum(falling[:found]) >= total
    assert 2 * sum(falling[: found - 1]) < total


def metric_of(report: ReportInput, metric: str, condition: str) -> float:
    table = report.tables["metrics"]
    rows = table[(table["metric"] == metric) & (table["condition"] == condition) & (table["regime"] == "greedy")]
    return float(rows["value"].mean())


def test_what_evidence_did_is_told_with_the_tables_numbers(small: ReportInput) -> None:
    text = plain(summary_lines(small))
    before, after = (metric_of(small, "accuracy", name) for name in ("zero_shot", "evidence_clean"))
    assert f"accuracy went from {100 * before:.1f} % to {100 * after:.1f} %" in text
    harm = [metric_of(small, "high_risk_error_rate", name) for name in ("zero_shot", "evidence_clean")]
    assert f"high-risk errors went from {100 * harm[0]:.1f} % to {100 * harm[1]:.1f} %" in text


def test_overlap_of_intervals_is_told_as_it_is(small: ReportInput) -> None:
    table = small.tables["metrics"]
    rows = table[(table["metric"] == "accuracy") & (table["regime"] == "greedy")].set_index("condition")
    apart = rows.loc["zero_shot", "exact_high"] < rows.loc["evidence_clean", "exact_low"]
    line = next(line for line in summary_lines(small) if line.startswith("Clean evidence against closed-book"))
    told = re.search(r"accuracy went.*?the exact 95 % intervals of the two (do not )?overlap", line)
    assert told
    assert bool(told.group(1)) == apart


def test_many_models_are_told_as_means_and_counts(large: ReportInput) -> None:
    text = plain(summary_lines(large))
    assert "on the mean over 9 models" in text
    assert re.search(r"the exact intervals of the two do not overlap for \d of 9 models", text)


def test_the_safe_region_counts_models_by_estimate_and_by_interval(large: ReportInput) -> None:
    table = large.tables["safe_region"]
    greedy = table[table["regime"] == "greedy"]
    inside = greedy[greedy["in_region"]]
    sure = int(greedy["in_region_by_interval"].sum())
    line = next(line for line in summary_lines(large) if "safe deployment region" in line)
    counts = inside.groupby("condition").size()
    assert f"clean evidence ({counts['evidence_clean']} of 9 models)" in line
    assert f"in {sure} of these {len(inside)}" in line if sure else "nowhere" in line


def test_concentration_is_told_over_all_conditions(large: ReportInput) -> None:
    counts = large.answers.groupby("question_id")["high_risk_error"].sum()
    text = plain(summary_lines(large))
    assert f"half of the {counts.sum()} high-risk errors fell on {half_count(counts)} of 60 questions" in text


def test_means_are_over_the_models_asked_under_both_conditions(large: ReportInput) -> None:
    skipped = ("context_max", "Qwen3-4B")
    tables = {
        name: table[(table["condition"] != skipped[0]) | (table["model"] != skipped[1])]
        if {"condition", "model"} <= set(table.columns)
        else table
        for name, table in large.tables.items()
    }
    lines = summary_lines(replace(large, tables=tables))
    assert any(line.startswith("Max-context against closed-book, on the mean over 8 models") for line in lines)
    assert any(line.startswith("Agentic RAG against closed-book, on the mean over 9 models") for line in lines)


def test_nobody_in_the_region_is_said(make_report: Make) -> None:
    report = make_report(conditions=("zero_shot",), question_count=30, seed=3)
    assert any(line.startswith("No model was in the safe deployment region") for line in summary_lines(report))


@pytest.mark.parametrize(("validated", "warned"), [(True, False), (False, True)])
def test_an_unvalidated_benchmark_is_cautioned(make_report: Make, validated: bool, warned: bool) -> None:
    lines = summary_lines(make_report(question_count=12, samples=0, validated=validated))
    assert any("not clinician-validated" in line for line in lines) is warned


@pytest.mark.parametrize(("count", "warned"), [(48, True), (200, False)])
def test_small_samples_are_cautioned(make_report: Make, count: int, warned: bool) -> None:
    lines = summary_lines(make_report(question_count=count, samples=0, conditions=("zero_shot", "evidence_clean")))
    assert any(line.startswith("Small sample") for line in lines) is warned


def test_the_rule_for_no_error_seen_is_the_exact_bound(make_report: Make) -> None:
    text = plain(summary_lines(make_report(question_count=48, samples=0, conditions=("zero_shot",))))
    told = float(re.search(r"true rate of about ([\d.]+) %", text).group(1)) / 100  # type: ignore[union-attr]
    assert np.isclose((1 - told) ** 48, 0.025, atol=0.002)


def test_the_largest_of_the_retrieval_conditions_speaks_for_them(make_report: Make) -> None:
    conditions = ("zero_shot", "top_1", "top_5", "top_10")
    text = plain(summary_lines(make_report(conditions=conditions, question_count=12, samples=0)))
    assert "Standard RAG against closed-book" in text
    assert "(top-5)" not in text


def test_skips_and_failures_say_what_they_mean(make_report: Make) -> None:
    report = make_report(question_count=12, failures=2)
    report.run.skips.add(model="smollm2-135m-instruct", condition="context_max", reason="too small")
    report.run.skips.add(model="smollm2-135m-instruct", condition="top_5", question_id="chest-01", reason="too long")
    text = plain(summary_lines(report))
    assert "Skipped: 1 condition of a model and 1 single cell." in text
    assert "2 cells of 60 failed. A failed cell counts as asked and unanswered" in text


def test_every_line_is_a_sentence(large: ReportInput, small: ReportInput, model: Any) -> None:
    for line in [*summary_lines(large), *summary_lines(small)]:
        assert line[0].isupper() or line[0].isdigit()
        assert line.endswith(".")
        assert "nan" not in line.split()


def test_what_is_missing_of_a_run_is_a_caution(small: ReportInput) -> None:
    sentence = "m under top_1: 1 of 3 questions have no verdict: q2."
    text = plain(summary_lines(replace(small, missing=[sentence])))
    assert f"Missing, and in no number here: {sentence} No gate passes such a run." in text
    assert "Missing, and in no number here" not in plain(summary_lines(small))
