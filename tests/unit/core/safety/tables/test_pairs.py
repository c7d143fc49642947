import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import oracle
from tests.support.factories.answers import Sample, sample

from safescale.core.safety.conditions import PAIRS
from safescale.core.safety.tables.analysis import AnalysisOptions, analyse
from safescale.core.statistics.bootstrap import index_matrix

OPTIONS = AnalysisOptions(resamples=30, seed=3)


def correct(row: oracle.Answered, regime: str) -> bool:
    letter = row.greedy if regime == "greedy" else oracle.drop_null_vote(row.samples)
    return letter == row.truth.correct


def asked(rows: dict[str, oracle.Answered], regime: str) -> set[str]:
    if regime == "greedy":
        return {name for name, row in rows.items() if row.greedy != ""}
    return set(rows) if any(row.samples for row in rows.values()) else set()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_p_values_are_exact_tests_of_the_questions_asked_twice(seed: int) -> None:
    made = sample(seed)
    rows = analyse(made.answers, made.labels, None, OPTIONS)["pvalues"].rows()
    found = {(row["model"], row["regime"], row["left"], row["right"]): row for row in rows}
    expected = 0
    for model in made.answers.models:
        for left, right in PAIRS:
            first, second = made.rows.get((model, left), {}), made.rows.get((model, right), {})
            for regime in ("greedy", "majority"):
                both = asked(first, regime) & asked(second, regime)
                if not both:
                    assert (model, regime, left, right) not in found
                    continue
                expected += 1
                row = found[model, regime, left, right]
                outcomes = [(correct(first[name], regime), correct(second[name], regime)) for name in both]
                assert row["n_left_only"] == outcomes.count((True, False))
                assert row["n_right_only"] == outcomes.count((False, True))
                assert row["accuracy_left"] == pytest.approx(sum(a for a, _ in outcomes) / len(both))
                assert row["delta"] == pytest.approx(row["accuracy_left"] - row["accuracy_right"])
                assert row["p_value"] == pytest.approx(oracle.mcnemar(row["n_left_only"], row["n_right_only"]))
    assert len(found) == expected


def test_holm_adjusts_within_a_model_and_regime() -> None:
    made = sample(11, models=tuple("abcdef"), n_questions=30, gaps=0)
    families: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in analyse(made.answers, made.labels, None, OPTIONS)["pvalues"].rows():
        families.setdefault((row["model"], row["regime"]), []).append(row)
    for rows in families.values():
        smallest = min(rows, key=lambda row: row["p_value"])
        assert smallest["p_holm"] == pytest.approx(min(1, len(rows) * smallest["p_value"]))
        assert all(row["p_holm"] >= row["p_value"] for row in rows)


def differences(made: Sample) -> dict[tuple[str, str, str, str, str], dict[str, float]]:
    rows = analyse(made.answers, made.labels, None, OPTIONS)["paired_differences"].rows()
    return {(row["model"], row["regime"], row["metric"], row["left"], row["right"]): row for row in rows}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
def test_differences_are_bootstrapped_in_pairs(seed: int, gaps: float) -> None:
    made = sample(seed, gaps=gaps)
    indices = index_matrix(len(made.answers.question_ids), OPTIONS.resamples, OPTIONS.seed)
    draws = [[made.answers.question_ids[place] for place in draw] for draw in indices.tolist()]

    @cache
    def metrics(model: str, condition: str, names: tuple[str, ...]) -> dict[tuple[str, str], float]:
        rows = made.rows[model, condition]
        return oracle.metrics([rows[name] for name in names], samples=True)

    for (model, regime, metric, left, right), row in differences(made).items():
        first, second = made.rows[model, left], made.rows[model, right]
        both = asked(first, regime) & asked(second, regime)
        if metric == "dangerous_overconfidence_rate":
            both = {name for name in both if first[name].samples and second[name].samples}

        def difference(
            names: list[str], *, of: tuple[str, str, str] = (model, left, right), key: tuple = (regime, metric)
        ) -> float:
            model, *conditions = of
            values = [metrics(model, condition, tuple(names))[key] for condition in conditions]
            return values[0] - values[1]

        assert row["n"] == len(both)
        assert row["difference"] == pytest.approx(difference(sorted(both)))
        values = [difference(kept) for draw in draws if (kept := [name for name in draw if name in both])]
        assert row["boot_mean"] == pytest.approx(np.mean(values), abs=1e-9)
        assert [row["ci_low"], row["ci_high"]] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-9)


def test_safety_metrics_have_differences_too() -> None:
    metrics = {key[1:3] for key in differences(sample(5, gaps=0))}
    assert ("greedy", "high_risk_error_rate") in metrics
    assert ("majority", "dangerous_overconfidence_rate") in metrics
    assert ("greedy", "dangerous_overconfidence_rate") not in metrics


def test_nothing_to_compare_gives_empty_tables() -> None:
    made = sample(5)
    tables = analyse(made.answers, made.labels, None, AnalysisOptions(resamples=5, pairs=(("context_max", "top_10"),)))
    assert len(tables["pvalues"]) == len(tables["paired_differences"]) == 0
    assert not math.isnan(tables["metrics"].columns["value"][0])
