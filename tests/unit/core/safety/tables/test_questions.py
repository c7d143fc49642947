from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import oracle
from tests.support.factories.answers import Sample, sample

from safescale.core.safety.answers.answer_cells import AnswerCells
from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.core.safety.tables.analysis import AnalysisOptions, analyse
from safescale.core.tables import Table

OPTIONS = AnalysisOptions(resamples=20)
SEEDS = st.integers(0, 10**6)


def tables(made: Sample) -> dict[str, Table]:
    return analyse(made.answers, made.labels, None, OPTIONS)


def greedy_rows(made: Sample) -> dict[tuple[str, str], list[oracle.Answered]]:
    """Answered questions by (condition, question), in the order of the models."""
    found: dict[tuple[str, str], list[oracle.Answered]] = {}
    for model in made.answers.models:
        for condition in made.answers.conditions:
            for name, row in made.rows.get((model, condition), {}).items():
                if row.greedy != "":
                    found.setdefault((condition, name), []).append(row)
    return found


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_worst_cases_count_models(seed: int) -> None:
    made = sample(seed, models=tuple("abcde"))
    found = {(row["condition"], row["question_id"]): row for row in tables(made)["per_question"].rows()}
    expected = greedy_rows(made)
    assert set(found) == set(expected)
    for key, rows in expected.items():
        wrong = [row.greedy for row in rows if row.greedy not in {None, row.truth.correct}]
        common = Counter(wrong).most_common(1)[0][0] if wrong else ""
        row = found[key]
        assert row["correct"] == rows[0].truth.correct
        assert row["most_common_wrong"] == common
        assert row["n_models"] == len(rows)
        assert row["n_unanswered"] == sum(each.greedy is None for each in rows)
        assert row["n_wrong"] == len(wrong) + row["n_unanswered"]
        for column, flag in (("n_high_risk", "high_risk"), ("n_unsafe", "unsafe"), ("n_contradiction", "contradicts")):
            assert row[column] == sum(oracle.is_error(each, each.greedy, flag) for each in rows)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_confidence_of_each_question(seed: int) -> None:
    made = sample(seed)
    found = {(row["model"], row["condition"], row["question_id"]): row for row in tables(made)["confidence"].rows()}
    drawn = {
        (*where, name): row for where, rows in made.rows.items() for name, row in rows.items() if row.samples
    }  # fmt: skip
    assert set(found) == set(drawn)
    for key, answered in drawn.items():
        row, counts = found[key], sorted(Counter(answered.samples).values(), reverse=True)
        n = len(answered.samples)
        assert row["majority"] == (oracle.null_ballot_vote(answered.samples) or "")
        assert row["majority_correct"] == int(oracle.right(answered))
        assert (row["n_samples"], row["n_null"]) == (n, answered.samples.count(None))
        assert row["agreement"] == counts[0] / n
        assert row["margin"] == pytest.approx((counts[0] - (counts[1] if len(counts) > 1 else 0)) / n)
        assert row["entropy"] == pytest.approx(oracle.entropy(answered.samples), abs=1e-12)
        assert row["confidence"] == pytest.approx(oracle.confidence(answered), abs=1e-12)
        assert row["wilson_low"] <= row["agreement"] <= row["wilson_high"] + 1e-12


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_calibration_bins_share_out_the_questions(seed: int) -> None:
    made = sample(seed, n_questions=12)
    found = tables(made)
    bins: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in found["calibration"].rows():
        bins.setdefault((row["model"], row["condition"]), []).append(row)
    drawn = {where: [row for row in rows.values() if row.samples] for where, rows in made.rows.items()}
    assert set(bins) == {where for where, rows in drawn.items() if rows}
    for where, rows in bins.items():
        expected = oracle.bins(drawn[where])
        assert [row["n"] for row in rows] == [len(held) for held in expected]
        assert [row["bin_low"] for row in rows] == [place / 10 for place in range(10)]
        for row, held in zip(rows, expected, strict=True):
            if held:
                assert row["gap"] == pytest.approx(oracle.gap(held), abs=1e-12)
                assert row["mean_confidence"] == pytest.approx(oracle.mean([oracle.confidence(each) for each in held]))
            else:
                assert np.isnan([row["gap"], row["accuracy"], row["mean_confidence"]]).all()


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_concentration_finds_the_few_questions_that_carry_half(seed: int) -> None:
    made = sample(seed, models=tuple("abcdef"))
    found = tables(made)
    errors: dict[str, list[int]] = {}
    for (condition, _), rows in greedy_rows(made).items():
        errors.setdefault(condition, []).append(sum(oracle.is_error(row, row.greedy, "high_risk") for row in rows))
    summary = {row["condition"]: row for row in found["concentration"].rows() if row["error"] == "high_risk"}
    assert set(summary) == set(errors)
    for condition, counts in errors.items():
        row = summary[condition]
        assert (row["n_errors"], row["n_questions"]) == (sum(counts), len(counts))
        assert row["n_questions_with_error"] == sum(count > 0 for count in counts)
        running, needed = 0, 0
        for count in sorted(counts, reverse=True):
            if 2 * running >= sum(counts):
                break
            running, needed = running + count, needed + 1
        assert row["n_questions_half"] == needed
        curve = [
            line for line in found["lorenz"].rows() if (line["condition"], line["error"]) == (condition, "high_risk")
        ]
        assert [line["n_errors"] for line in curve] == sorted(counts, reverse=True)
        if sum(counts):
            assert curve[-1]["share_of_errors"] == pytest.approx(1)
            assert curve[0]["question_id"] == row["worst_question"]
            assert row["n_errors_worst_question"] == max(counts)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_failure_in_unison(seed: int) -> None:
    made = sample(seed, models=("a", "b", "c", "d"))
    found = {(row["condition"], row["event"]): row for row in tables(made)["synchronized"].rows()}
    by_condition: dict[str, list[list[oracle.Answered]]] = {}
    for (condition, _), rows in greedy_rows(made).items():
        if len(rows) >= 2:
            by_condition.setdefault(condition, []).append(rows)
    assert {condition for condition, _ in found} == set(by_condition)
    for condition, questions in by_condition.items():
        events = Counter()
        for rows in questions:
            wrong = Counter(row.greedy for row in rows if row.greedy not in {None, row.truth.correct})
            top = max(wrong.values(), default=0)
            events["all_same_wrong"] += top == len(rows)
            events["half_same_wrong"] += 2 * top >= len(rows)
            events["all_wrong"] += all(row.greedy != row.truth.correct for row in rows)
            events["all_high_risk"] += all(oracle.is_error(row, row.greedy, "high_risk") for row in rows)
        for event, count in events.items():
            row = found[condition, event]
            assert (row["n_events"], row["n_questions"]) == (count, len(questions))
            assert row["rate"] == count / len(questions)
            assert 0 <= row["ci_low"] <= row["ci_high"] <= 1


def test_without_labels_no_harm_is_counted_and_none_is_said_to_be_zero() -> None:
    options = {"A": "x", "B": "y"}
    bank = Benchmark("bank", (Question("q1", "", options, "A"),))
    cells = AnswerCells()
    cells.add(("m", "zero_shot", "q1"), "B", "BB", None)
    found = analyse(cells.answer_set(), label_set(bank, ("q1",)), None, OPTIONS)["per_question"].columns
    assert found["n_wrong"].tolist() == [1]
    for column in ("n_high_risk", "n_unsafe", "n_contradiction"):
        assert np.isnan(found[column]).all()
