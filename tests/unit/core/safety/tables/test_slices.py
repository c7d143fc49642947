import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from tests.support.factories.answers import Sample, sample

from safescale.core.errors import InvalidInputError, LimitExceededError
from safescale.core.safety.tables.analysis import AnalysisOptions, analyse, analyse_with_notes, metrics_of, slices_of
from safescale.core.safety.tables.measure import measurements
from safescale.core.safety.tables.slices import MAX_VALUES
from safescale.core.statistics.stats import holm

OPTIONS = AnalysisOptions(resamples=10)


def sliced(seed: int, *, unread: float = 0.0, clusters: bool = False) -> Sample:
    made = sample(seed, n_questions=12, unread=unread, gaps=0)
    count = len(made.labels.question_ids)
    values = tuple(("CT", "MR", "")[place % 3] for place in range(count))
    groups = {"modality": values, "site": ("",) * count}
    codes = np.arange(count) // 2 if clusters else None
    return Sample(made.answers, replace(made.labels, groups=groups, clusters=codes), made.rows)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_a_slice_is_measured_as_if_its_questions_were_all(seed: int, clusters: bool) -> None:
    made = sliced(seed, unread=0.5, clusters=clusters)
    table = slices_of(made.answers, made.labels, ["modality"], OPTIONS)
    kept = np.flatnonzero(np.array(made.labels.groups["modality"]) == "CT")
    alone = metrics_of(made.answers.of_questions(kept), made.labels.of_questions(kept), OPTIONS)
    found = [row for row in table.rows() if row.pop("slice") == "modality" and row.pop("slice_value") == "CT"]
    assert len(found) == len(alone)
    place = ("model", "condition", "regime", "metric")
    by_place = {tuple(row[name] for name in place): row for row in found}
    for theirs in alone.rows():
        ours = by_place[tuple(theirs[name] for name in place)]
        bootstraps = ("boot_mean", "boot_sd", "ci_low", "ci_high") if ours["interval"] != "bootstrap" else ()
        assert set(theirs) <= set(ours)
        for name, value in theirs.items():
            if name in bootstraps:
                assert math.isnan(ours[name])
            else:
                assert ours[name] == value or math.isnan(value), (name, theirs)


def test_slices_leave_no_question_out_and_their_events_add_up() -> None:
    made = sliced(3)
    tables = analyse(made.answers, made.labels, None, OPTIONS)
    rows = list(tables["slices"].rows())
    assert {row["slice"] for row in rows} == {"subspecialty", "question_type", "modality"}
    assert {row["slice_value"] for row in rows if row["slice"] == "modality"} == {"CT", "MR", "(none)"}
    for name in ("subspecialty", "modality"):
        for whole in tables["metrics"].rows():
            if math.isnan(whole["events"]):
                continue
            place = ("model", "condition", "regime", "metric")
            parts = [
                row for row in rows if row["slice"] == name and all(row[column] == whole[column] for column in place)
            ]
            assert sum(row["events"] for row in parts) == whole["events"]
            assert sum(row["n"] for row in parts) == whole["n"]


def test_the_table_of_an_analysis_has_shares_and_no_bootstrap() -> None:
    made = sliced(3)
    for row in analyse(made.answers, made.labels, None, OPTIONS)["slices"].rows():
        assert row["interval"] == "clopper_pearson"
        assert math.isnan(row["ci_low"])


def test_a_slice_is_tested_against_the_other_questions() -> None:
    made = sliced(3)
    tables = analyse(made.answers, made.labels, None, OPTIONS)
    place = ("model", "condition", "regime", "metric")
    whole = {tuple(row[name] for name in place): row for row in tables["metrics"].rows()}
    families: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for row in tables["slices"].rows():
        total = whole[tuple(row[name] for name in place)]
        x, n = row["events"], row["n"]
        table = [[x, n - x], [total["events"] - x, total["n"] - n - total["events"] + x]]
        assert row["p_value"] == pytest.approx(fisher_exact(table).pvalue)
        key = (row["slice"], row["model"], row["regime"], row["metric"])
        families.setdefault(key, []).append((row["p_value"], row["p_holm"]))
    for pairs in families.values():
        raw, adjusted = zip(*pairs, strict=True)
        assert holm(raw) == pytest.approx(adjusted)


def test_clustered_questions_are_not_tested_as_if_they_were_independent() -> None:
    made = sliced(3, clusters=True)
    table = analyse(made.answers, made.labels, None, OPTIONS)["slices"]
    assert set(table.columns["interval"].tolist()) == {"korn_graubard"}
    assert np.isnan(table.columns["p_value"]).all()


def test_what_has_a_value_for_each_question_is_no_slice() -> None:
    made = sample(3, n_questions=MAX_VALUES + 1, models=("a",), gaps=0, drawn=0)
    count = len(made.labels.question_ids)
    labels = replace(made.labels, groups={"patient": tuple(f"p{place}" for place in range(count))})
    analysis = analyse_with_notes(made.answers, labels, None, OPTIONS)
    assert "patient" not in analysis.tables["slices"].columns["slice"].tolist()
    assert any("more than 100 values: patient." in note for note in analysis.notes)
    with pytest.raises(LimitExceededError, match="'patient' has 101 values; the limit is 100"):
        slices_of(made.answers, labels, ["patient"], OPTIONS)


def test_rows_are_ordered_by_slice_value_and_model() -> None:
    made = sliced(3)
    table = analyse(made.answers, made.labels, None, OPTIONS)["slices"]
    places = list(zip(*(table.columns[name].tolist() for name in ("slice", "slice_value", "model")), strict=True))
    ranks = {"subspecialty": 0, "question_type": 1, "modality": 2}
    assert places == sorted(places, key=lambda place: (ranks[place[0]], *place[1:]))


def test_a_slice_that_the_questions_do_not_have_is_refused() -> None:
    made = sliced(3)
    for name in ("site", "nothing"):
        expected = f"no slice '{name}'; expected one of subspecialty, question_type, modality"
        with pytest.raises(InvalidInputError, match=expected):
            slices_of(made.answers, made.labels, [name], OPTIONS)


def test_measurements_say_their_slice() -> None:
    made = sliced(3)
    measured = measurements(slices_of(made.answers, made.labels, ["modality"], OPTIONS))
    assert {(each.slice, each.slice_value) for each in measured} == {
        ("modality", "CT"), ("modality", "MR"), ("modality", "(none)"),
    }  # fmt: skip
