"""Figures: what is drawn is what was measured, and colour is never alone."""

import colorsys
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.safety.conditions import CONDITION_IDS
from safescale.report.figures import Absent, Figure
from safescale.report.pictures import Drawing, draw_all
from safescale.report.safety.figures_confidence import calibration, confidence
from safescale.report.safety.figures_pairs import forest
from safescale.report.safety.figures_questions import concentration, heat_map, outcomes
from safescale.report.safety.figures_safety import metric_bars, place_labels, region
from safescale.report.safety.figures_scale import latency, scaling
from safescale.report.safety.inputs import ReportInput
from safescale.report.safety.page import page_of
from safescale.report.safety.view import View, views
from safescale.report.theme import CONDITION_MARKS, OUTCOMES, mark_of, tidy_svg

Make = Callable[..., ReportInput]


@pytest.fixture(scope="module")
def one(small: ReportInput) -> View:
    return views(small)[0]


@pytest.fixture(scope="module")
def nine(large: ReportInput) -> View:
    return views(large)[0]


def figure(drawn: Figure | Absent) -> Figure:
    assert isinstance(drawn, Figure)
    return drawn


def test_every_condition_has_a_shape_of_its_own() -> None:
    assert set(CONDITION_MARKS) <= set(CONDITION_IDS)
    assert len({mark_of(name).shape for name in CONDITION_IDS}) == len(CONDITION_IDS)
    assert mark_of("of another version").shape not in {mark.shape for mark in CONDITION_MARKS.values()}


def test_worse_errors_are_darker_and_have_a_sign() -> None:
    def light(colour: str) -> float:
        red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        return colorsys.rgb_to_yiq(red, green, blue)[0]

    wrong = [outcome for outcome in OUTCOMES if outcome.name in {"correct", "wrong", "unsafe", "high-risk"}]
    assert [outcome.name for outcome in wrong] == ["correct", "wrong", "unsafe", "high-risk"]
    assert sorted((light(outcome.colour) for outcome in wrong), reverse=True) == [light(o.colour) for o in wrong]
    assert len({outcome.sign for outcome in OUTCOMES}) == len(OUTCOMES)


def test_the_region_lists_each_point_and_says_which_are_inside(nine: View, large: ReportInput) -> None:
    drawn = figure(region(nine))
    table = large.tables["safe_region"]
    greedy = table[table["regime"] == "greedy"]
    assert len(drawn.data) == len(greedy) == 90
    assert int((drawn.data["in the region"] == "whole interval").sum()) == int(greedy["in_region_by_interval"].sum())
    inside = drawn.data["in the region"] != "no"
    assert int(inside.sum()) == int(greedy["in_region"].sum())
    assert drawn.finding.startswith(f"{int(inside.sum())} of 90 points")


def test_names_of_conditions_are_in_the_pictures(one: View) -> None:
    makers = (region, metric_bars, forest, calibration, confidence, concentration, heat_map, latency)
    specs = {make.__name__: figure(make(one)).spec for make in makers}
    for name, picture in draw_all(specs).items():
        assert ">clean evidence" in picture.svg, name


def test_bars_show_every_metric_with_its_interval(one: View, small: ReportInput) -> None:
    drawn = figure(metric_bars(one))
    names = [str(column).split(" [")[0] for column in drawn.data.columns]
    assert names == [
        "condition", "model", "accuracy", "high-risk error", "unsafe answer", "contradiction",
        "dangerous overconfidence", "abstention",
    ]  # fmt: skip
    table = small.tables["metrics"]
    rows = table[(table["metric"] == "accuracy") & (table["regime"] == "greedy")].set_index("condition")
    first = rows.loc["zero_shot"]
    text = str(drawn.data.iloc[0, 2]).replace("\u00a0", " ")
    assert text == f"{100 * first['value']:.1f} % [{100 * first['exact_low']:.1f}, {100 * first['exact_high']:.1f}]"


def test_the_forest_has_every_pair_that_was_asked(one: View, small: ReportInput) -> None:
    drawn = figure(forest(one))
    tests = small.tables["pvalues"]
    assert len(drawn.data) == len(tests[tests["regime"] == "greedy"]) == 4
    assert "clean evidence \u2212 closed-book" in set(drawn.data["comparison"])
    first = small.tables["paired_differences"].query("metric == 'accuracy' and regime == 'greedy'").iloc[0]
    assert str(drawn.data.iloc[0, 2]).startswith(f"{100 * first['difference']:+.1f} points")
    assert "\u2013" not in set(drawn.data["McNemar p"])


def test_calibration_pools_bins_by_the_number_of_answers(nine: View, large: ReportInput) -> None:
    drawn = figure(calibration(nine))
    table = large.tables["calibration"]
    clean = table[(table["condition"] == "evidence_clean") & (table["n"] > 0)]
    top = clean[clean["bin_low"] == clean["bin_low"].max()]
    row = drawn.data[drawn.data["condition"] == "clean evidence"].iloc[-1]
    assert int(row["answers"]) == int(top["n"].sum())
    assert row["accuracy"] == f"{(top['accuracy'] * top['n']).sum() / top['n'].sum():.3f}"


def test_dangerous_answers_are_those_with_a_flag(one: View) -> None:
    drawn = figure(confidence(one))
    counted = drawn.data.groupby("answer")["answers"].sum()
    rows = one.table("confidence")
    answered = rows[rows["majority"] != ""]
    dangerous = sum(
        1
        for row in answered.to_dict("records")
        if not row["majority_correct"]
        and (labels := one.questions[row["question_id"]].labels[row["majority"]])
        and (labels.high_risk or labels.unsafe)
    )
    assert counted["dangerous"] == dangerous
    assert counted.sum() == len(answered)


def test_the_heat_map_counts_every_answer_once(nine: View, large: ReportInput) -> None:
    drawn = figure(heat_map(nine))
    names = [outcome.name for outcome in OUTCOMES]
    assert int(drawn.data[names].to_numpy().sum()) == len(large.answers)
    worst = large.answers.groupby("question_id")["high_risk_error"].sum()
    assert worst[drawn.data["question"].iloc[0]] == worst.max()


def test_outcomes_take_the_most_severe_flag() -> None:
    rows = [
        (True, False, False, False, False, "correct"), (False, True, True, False, False, "high-risk"),
        (False, False, True, False, False, "unsafe"), (False, False, False, False, False, "wrong"),
        (False, False, False, True, False, "abstention"), (False, False, False, True, True, "failed"),
    ]  # fmt: skip
    columns = ["correct", "high_risk_error", "unsafe_answer", "abstention", "failed", "wanted"]
    frame = outcomes(pd.DataFrame(rows, columns=columns))
    assert list(frame["outcome"]) == list(frame["wanted"])


def test_scaling_tells_the_tables_slopes(nine: View, large: ReportInput, one: View) -> None:
    table = large.tables["scaling"]
    row = table[
        (table["family"] == "all") & (table["condition"] == "zero_shot") & (table["metric"] == "accuracy")
        & (table["regime"] == "greedy")
    ]  # fmt: skip
    slope = f"{100 * float(row['slope_per_decade'].iloc[0]):+.1f}".replace("-", "\u2212")
    assert f"closed-book {slope} and" in figure(scaling(nine)).finding
    assert isinstance(scaling(one), Absent)


def test_scaling_says_which_models_it_leaves_out(large: ReportInput, one: View) -> None:
    run = type(large.run)()
    run.CopyFrom(large.run)
    for model in run.manifest.models[:2]:
        model.parameters_b = 0
    names = [model.id for model in run.manifest.models[:2]]
    (view,) = views(replace(large, run=run))
    drawn = figure(scaling(view))
    assert f"Left out, since their size is not known: {', '.join(names)}." in drawn.caption
    assert "one of 7 models" in drawn.caption
    assert not set(names) & set(drawn.data["model"])
    for model in run.manifest.models:
        model.parameters_b = 0
    (view,) = views(replace(large, run=run))
    absent = scaling(view)
    assert isinstance(absent, Absent)
    assert "this run has 0. Left out, since their size is not known:" in absent.reason
    assert "unknown" in str(page_of(replace(large, run=run), Drawing(("/nowhere",))).html)


def test_latency_leaves_out_calls_that_were_not_timed(one: View, small: ReportInput) -> None:
    drawn = figure(latency(one))
    assert int(drawn.data["calls"].sum()) == int(small.latency["greedy_s"].notna().sum())


def test_questions_are_counted_from_answers_where_the_table_is_missing(small: ReportInput, one: View) -> None:
    tables = {name: table for name, table in one.tables.items() if name != "per_question"}
    counted = View(**{**{name: getattr(one, name) for name in FIELDS}, "tables": tables}).per_question
    keys = ["condition", "question_id"]
    columns = [*keys, "n_models", "n_wrong", "n_high_risk", "n_unsafe", "n_contradiction"]
    table = small.tables["per_question"].sort_values(keys).reset_index(drop=True)[columns]
    found = counted.sort_values(keys).reset_index(drop=True)[columns]
    assert found[keys].equals(table[keys].astype(found[keys].dtypes.to_dict()))
    assert (found["n_high_risk"].to_numpy() == table["n_high_risk"].to_numpy()).all()
    assert (found["n_unsafe"].to_numpy() == table["n_unsafe"].to_numpy()).all()


FIELDS = ("formulation", "models", "tables", "answers", "latency", "questions", "samples", "regime")

marks = st.lists(st.tuples(st.floats(0, 600), st.floats(0, 400)), min_size=1, max_size=12)


@given(marks)
def test_placed_names_never_cover_each_other(points: list[tuple[float, float]]) -> None:
    placed = place_labels(points, ["a name"] * len(points), 620)
    boxes = []
    for (dx, dy, align), rows in placed.items():
        for row in rows:
            left = points[row][0] + dx - {"left": 0, "right": 39.6, "center": 19.8}[align]
            boxes.append((left, points[row][1] + dy - 7, left + 39.6, points[row][1] + dy + 7))
    for place, box in enumerate(boxes):
        for other in boxes[place + 1 :]:
            apart = box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
            assert apart


def test_tidied_ids_depend_on_the_picture_alone() -> None:
    first = tidy_svg('<svg><clipPath id="clip41"></clipPath><g clip-path="url(#clip41)">1.23456</g></svg>', "bars")
    second = tidy_svg('<svg><clipPath id="clip7"></clipPath><g clip-path="url(#clip7)">1.23456</g></svg>', "bars")
    assert first == second
    assert 'id="bars-1"' in first
    assert "url(#bars-1)" in first
    assert "1.23456" in first
