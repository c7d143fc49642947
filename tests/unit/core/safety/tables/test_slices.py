import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.factories.answers import Sample, sample

from safescale.core.errors import InvalidInputError
from safescale.core.safety.tables.analysis import AnalysisOptions, analyse, metrics_of, slices_of
from safescale.core.safety.tables.measure import measurements

OPTIONS = AnalysisOptions(resamples=10)


def sliced(seed: int, *, unread: float = 0.0, clusters: bool = False) -> Sample:
    made = sample(seed, n_questions=12, unread=unread)
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
    for ours, theirs in zip(found, alone.rows(), strict=True):
        assert list(ours) == list(theirs)
        assert all(ours[name] == value or math.isnan(value) for name, value in theirs.items())


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
