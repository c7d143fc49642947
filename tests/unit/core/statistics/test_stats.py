import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from tests.support import oracle

from safescale.core.statistics.stats import fewest_for_share, fit_lines, gini, holm, mcnemar_exact, two_way, wilson


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_scipys_score_interval(successes: int, extra: int) -> None:
    n = successes + extra
    low, high = wilson(np.array([successes / n]), np.array([n]), 1.959963984540054)
    theirs = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert low[0] == pytest.approx(theirs.low, abs=1e-12)
    assert high[0] == pytest.approx(theirs.high, abs=1e-12)


def test_wilson_of_no_trials_is_not_a_number() -> None:
    low, high = wilson(np.array([np.nan]), np.array([0]))
    assert np.isnan([low[0], high[0]]).all()


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    assert mcnemar_exact(b, c) == pytest.approx(oracle.mcnemar(b, c), abs=1e-15)
    if b + c:
        assert mcnemar_exact(b, c) == pytest.approx(scipy.stats.binomtest(b, b + c).pvalue, abs=1e-12)


def test_mcnemar_does_not_underflow() -> None:
    assert mcnemar_exact(0, 0) == 1
    assert mcnemar_exact(900, 1100) == pytest.approx(scipy.stats.binomtest(900, 2000).pvalue, rel=1e-9)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(raw <= new <= 1 for raw, new in zip(p_values, adjusted, strict=True))
    ranked = [new for _, new in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]


@given(st.integers(0, 10**6), st.integers(3, 40))
def test_lines_are_scipys(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.normal(size=(n, 2))
    lines = fit_lines(x, y)
    for column in range(2):
        theirs = scipy.stats.linregress(x, y[:, column])
        assert lines.slope[column] == pytest.approx(theirs.slope, rel=1e-7, abs=1e-9)
        assert lines.intercept[column] == pytest.approx(theirs.intercept, rel=1e-7, abs=1e-9)
        assert lines.slope_se[column] == pytest.approx(theirs.stderr, rel=1e-6, abs=1e-9)
        assert lines.p_value[column] == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-9)
        assert lines.r_squared[column] == pytest.approx(theirs.rvalue**2, abs=1e-9)
        half = scipy.stats.t.ppf(0.975, n - 2) * theirs.stderr
        assert lines.slope_high[column] - lines.slope[column] == pytest.approx(half, rel=1e-6)
        assert lines.slope[column] - lines.slope_low[column] == pytest.approx(half, rel=1e-6)


def test_lines_leave_out_values_that_are_missing() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    y = np.array([[0.0, 1.0], [1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    lines = fit_lines(x, y)
    assert lines.n.tolist() == [3, 1]
    assert lines.slope[0] == pytest.approx(1)
    assert math.isnan(lines.slope[1])


def test_lines_of_two_points_have_no_interval_and_flat_ones_no_r_squared() -> None:
    lines = fit_lines(np.array([1.0, 2.0, 3.0]), np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]]))
    assert lines.slope[0] == pytest.approx(2)
    assert np.isnan([lines.slope_se[0], lines.slope_low[0], lines.p_value[0]]).all()
    assert math.isnan(lines.r_squared[1])
    assert lines.p_value[1] == 1


def test_a_line_without_error_is_certain() -> None:
    lines = fit_lines(np.array([0.0, 1.0, 2.0, 3.0]), np.array([[0.0], [1.0], [2.0], [3.0]]))
    assert lines.p_value[0] == 0
    assert lines.slope_low[0] == lines.slope_high[0] == 1


def test_models_of_one_size_have_no_line() -> None:
    assert np.isnan(fit_lines(np.array([9.1, 9.1, 9.1]), np.array([[1.0], [2.0], [4.0]])).slope[0])


def classical(values: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[float]:
    """The two-way analysis of balanced cells, from means alone."""
    grand = values.mean()
    mean_a = np.array([values[a == level].mean() for level in a])
    mean_b = np.array([values[b == level].mean() for level in b])
    mean_ab = np.array([values[(a == i) & (b == j)].mean() for i, j in zip(a, b, strict=True)])
    parts = [mean_a - grand, mean_b - grand, mean_ab - mean_a - mean_b + grand, values - mean_ab]
    return [float((part**2).sum()) for part in parts]


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(2, 4), st.integers(1, 3))
def test_balanced_cells_give_the_classical_decomposition(seed: int, n_a: int, n_b: int, each: int) -> None:
    a, b, _ = (codes.ravel() for codes in np.indices((n_a, n_b, each)))
    values = np.random.default_rng(seed).normal(size=len(a))
    shares = two_way(values, a, b)
    theirs = np.array(classical(values, a, b))
    ours = [shares.first, shares.second, shares.interaction, shares.residual]
    assert ours == pytest.approx(theirs / theirs.sum(), abs=1e-9)
    assert shares.total == pytest.approx(theirs.sum())


@given(st.integers(0, 10**6), st.integers(2, 30))
def test_unbalanced_shares_sum_to_one(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    shares = two_way(rng.normal(size=n), rng.integers(0, 3, size=n), rng.integers(0, 4, size=n))
    parts = [shares.first, shares.second, shares.interaction, shares.residual]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(1)


def test_one_factor_that_explains_all_gets_all() -> None:
    a, b = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 0, 1])
    shares = two_way(np.array([1.0, 1, 1, 5, 5]), a, b)
    assert shares.first > 0.9
    assert shares.interaction == pytest.approx(0, abs=1e-12)
    assert shares.residual == pytest.approx(0, abs=1e-12)


def test_equal_values_have_no_shares() -> None:
    shares = two_way(np.ones(4), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert math.isnan(shares.first)
    assert shares.total == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_gini_is_the_mean_difference(amounts: list[int]) -> None:
    n, total = len(amounts), sum(amounts)
    found = gini(np.array(amounts))
    if total == 0:
        assert math.isnan(found)
    else:
        pairs = sum(abs(first - second) for first in amounts for second in amounts)
        assert found == pytest.approx(pairs / (2 * n * total))


@given(st.lists(st.integers(0, 9), max_size=15))
def test_the_fewest_are_enough_and_one_less_is_not(amounts: list[int]) -> None:
    count = fewest_for_share(np.array(amounts, dtype=np.int64))
    largest = sorted(amounts, reverse=True)
    if sum(amounts) == 0:
        assert count == 0
    else:
        assert 2 * sum(largest[:count]) >= sum(amounts)
        assert 2 * sum(largest[: count - 1]) < sum(amounts)


def test_a_line_without_scatter_is_certain_of_its_slope() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    lines = fit_lines(x, np.column_stack([2 * x, np.full(4, 5.0)]))
    assert lines.slope.tolist() == [2.0, 0.0]
    assert lines.slope_se.tolist() == [0.0, 0.0]
    assert lines.p_value.tolist() == [0.0, 1.0]
