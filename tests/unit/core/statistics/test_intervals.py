import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.statistics.intervals import (
    ShareCount,
    ShareCounts,
    clopper_pearson,
    clopper_pearson_arrays,
    share_count,
    share_counts,
    share_interval,
    share_intervals,
)

CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99, 0.999])


@given(st.integers(0, 400), st.integers(0, 400), CONFIDENCES)
def test_clopper_pearson_is_scipys_exact_interval(events: int, others: int, confidence: float) -> None:
    n = events + others
    if n == 0:
        return
    ours = clopper_pearson(events, n, confidence)
    theirs = scipy.stats.binomtest(events, n).proportion_ci(confidence, method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("events", "n", "low", "high"),
    # As R's binom.test prints them.
    [
        (8, 10, 0.4439, 0.9748), (0, 32, 0.0, 0.1089), (0, 200, 0.0, 0.0183), (32, 32, 0.8911, 1.0),
        (5, 100, 0.0164, 0.1128),
    ],
)  # fmt: skip
def test_worked_examples(events: int, n: int, low: float, high: float) -> None:
    found = clopper_pearson(events, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 3000), CONFIDENCES)
def test_nothing_seen_has_the_closed_form(n: int, confidence: float) -> None:
    none, each = clopper_pearson(0, n, confidence), clopper_pearson(n, n, confidence)
    assert none.low == 0
    assert none.high == pytest.approx(1 - ((1 - confidence) / 2) ** (1 / n), rel=1e-9)
    assert (each.low, each.high) == (pytest.approx(1 - none.high, rel=1e-9), 1)


@given(st.floats(0, 1), st.floats(0.01, 500), CONFIDENCES)
def test_it_contains_the_share_is_symmetric_and_nested(share: float, n: float, confidence: float) -> None:
    events = share * n
    found, mirrored = clopper_pearson(events, n, confidence), clopper_pearson(n - events, n, confidence)
    wider = clopper_pearson(events, n, (1 + confidence) / 2)
    assert 0 <= found.low <= events / n + 1e-9
    assert events / n - 1e-9 <= found.high <= 1
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-6)
    assert wider.low <= found.low + 1e-12
    assert wider.high >= found.high - 1e-12


@given(st.integers(1, 300))
def test_both_ends_rise_with_the_events(n: int) -> None:
    low, high = clopper_pearson_arrays(np.arange(n + 1), n)
    assert (np.diff(low) > 0).all()
    assert (np.diff(high) > 0).all()


@pytest.mark.parametrize(("n", "rate"), [(20, 0.01), (32, 0.05), (100, 0.1), (200, 0.37), (500, 0.02)])
def test_each_side_misses_in_at_most_half_of_the_error(n: int, rate: float) -> None:
    chances = scipy.stats.binom.pmf(np.arange(n + 1), n, rate)
    low, high = clopper_pearson_arrays(np.arange(n + 1), n)
    assert chances[high < rate].sum() <= 0.025
    assert chances[low > rate].sum() <= 0.025


def test_of_nothing_there_is_no_interval() -> None:
    assert np.isnan([clopper_pearson(0, 0).low, clopper_pearson(0, 0).high]).all()
    low, high = clopper_pearson_arrays([0, 1, math.nan], [0, 4, 4])
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False, True]


@pytest.mark.parametrize(("events", "n", "confidence"), [(-1, 4, 0.95), (5, 4, 0.95), (1, 4, 1.0), (1, 4, 0.0)])
def test_impossible_arguments_are_refused(events: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"events|confidence"):
        clopper_pearson(events, n, confidence)


def plain_count(flags: np.ndarray, clusters: np.ndarray) -> ShareCount:
    """Korn and Graubard's effective number, one cluster at a time."""
    n, p, groups = len(flags), flags.mean(), sorted(set(clusters.tolist()))
    c, sizes = len(groups), [int((clusters == group).sum()) for group in groups]
    voices = n**2 / sum(size**2 for size in sizes)
    freedom = sum(size**2 for size in sizes) ** 2 / sum(size**4 for size in sizes) - 1
    if p in {0.0, 1.0} or c == 1:
        return ShareCount(int(flags.sum()), n, c, voices, voices, freedom)
    residuals = [sum(flags[clusters == group] - p) for group in groups]
    variance = c / (c - 1) * sum(each**2 for each in residuals) / n**2
    effective = min(float(n), p * (1 - p) / variance) if variance > 1e-15 else float(n)
    return ShareCount(int(flags.sum()), n, c, effective, voices, freedom)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8), st.sampled_from([0.05, 0.3, 0.9]))
def test_clusters_are_counted_as_by_hand(seed: int, n: int, most: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    flags, clusters = rng.random(n) < rate, rng.integers(0, most, n)
    found, wanted = share_count(flags, clusters), plain_count(flags, clusters)
    assert (found.events, found.n, found.clusters) == (wanted.events, wanted.n, wanted.clusters)
    assert found.n_effective == pytest.approx(wanted.n_effective)
    assert found.clusters_effective == pytest.approx(wanted.clusters_effective)
    assert found.freedom == pytest.approx(wanted.freedom, abs=1e-9)


def test_korn_graubard_by_hand() -> None:
    # Four articles of five questions with 0, 1, 1 and 4 harms: p = 0.3, residuals −1.5, −0.5, −0.5, 2.5, so
    # v = 4/3 · 9/400 = 0.03 and n_eff = 0.21/0.03 = 7; t_19 = 2.0930, t_3 = 3.1824: n* = 3.0277, x* = 0.9083.
    flags = np.array([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0], dtype=bool)
    count = share_count(flags, np.repeat(np.arange(4), 5))
    assert count == ShareCount(6, 20, 4, pytest.approx(7.0), 4.0, 3.0)
    assert share_interval(count) == share_interval(ShareCount(6, 20, 4, count.n_effective))
    rows = ShareCounts(np.array([6, 6]), np.array([20, 20]), np.array([4, 0]), np.array([count.n_effective, math.nan]))
    assert [ends[0] for ends in share_intervals(rows)] == [share_interval(count).low, share_interval(count).high]
    found, n = share_interval(count), 7 * (2.09302 / 3.18245) ** 2
    assert n == pytest.approx(3.0277, abs=1e-4)
    assert found.low == pytest.approx(scipy.stats.beta.ppf(0.025, 0.3 * n, 0.7 * n + 1), rel=1e-4)
    assert found.high == pytest.approx(scipy.stats.beta.ppf(0.975, 0.3 * n + 1, 0.7 * n), rel=1e-4)
    plain = share_interval(share_count(flags))
    assert found.low < plain.low
    assert found.high > plain.high


def test_where_nothing_happened_each_cluster_speaks_with_one_voice() -> None:
    count = share_count(np.zeros(200, dtype=bool), np.repeat(np.arange(20), 10))
    assert count == ShareCount(0, 200, 20, 20.0, 20.0, 19.0)
    assert share_interval(count) == clopper_pearson(0, 20)
    assert share_interval(ShareCount(200, 200, 20, 20.0)) == clopper_pearson(20, 20)


def test_no_event_makes_a_model_look_safer_than_none_does() -> None:
    # Korn and Graubard's own high end falls from 16.8 % with no event among 20 articles of 20 to 1.5 % with one.
    clusters = np.repeat(np.arange(20), 20)
    ends = [share_interval(share_count(np.arange(400) < events, clusters)) for events in range(401)]
    assert ends[0].high == pytest.approx(clopper_pearson(0, 20).high)
    assert all(end.high >= ends[0].high - 1e-12 and end.low <= ends[400].low + 1e-12 for end in ends)


def test_clusters_of_unlike_sizes_count_as_fewer() -> None:
    # 40 questions alone and 2 vignettes of 30: (40 + 60)²/(40 + 2 · 900) = 5.43 voices, 1840²/(40 + 2 · 810000) − 1.
    clusters = np.concatenate([np.arange(40), np.repeat([40, 41], 30)])
    none = share_count(np.zeros(100, dtype=bool), clusters)
    assert (none.clusters, none.n_effective) == (42, pytest.approx(10_000 / 1840))
    assert none.freedom == pytest.approx(1840**2 / 1_620_040 - 1)
    assert share_interval(none).high == pytest.approx(1 - 0.025 ** (1840 / 10_000))
    some = share_count(np.arange(100) % 3 == 0, clusters)
    alike = share_interval(ShareCount(some.events, some.n, some.clusters, some.n_effective))
    found = share_interval(some)
    assert found.low < alike.low
    assert found.high > alike.high
    nearly_one = share_interval(share_count(np.arange(1001) % 3 == 0, np.concatenate([np.zeros(1000, int), [1]])))
    assert (nearly_one.low, nearly_one.high) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


@pytest.mark.parametrize("sizes", [[20] * 20, [1] * 40 + [10] * 10 + [40] * 2], ids=["large", "unlike"])
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_clusters_of_strong_correlation_are_covered(sizes: list[int], rate: float) -> None:
    rng = np.random.default_rng(20)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    chances = rng.beta(rate, 1 - rate, size=(2000, len(sizes)))  # an intraclass correlation of 0.5
    flags = rng.random((2000, len(clusters))) < chances[:, clusters]
    low, high = share_intervals(share_counts(flags, np.ones_like(flags), clusters))
    assert np.mean((low <= rate) & (rate <= high)) >= 0.935


def test_clusters_that_differ_less_than_chance_count_as_the_questions_and_no_more() -> None:
    flags = np.tile([True, False], 50)
    count = share_count(flags, np.repeat(np.arange(50), 2))
    assert count.n_effective == 100
    found, plain = share_interval(count), clopper_pearson(50, 100)
    assert found.low <= plain.low
    assert found.high >= plain.high


def test_one_cluster_alone_says_nothing() -> None:
    for flags in (np.zeros(30, dtype=bool), np.arange(30) < 9, np.ones(30, dtype=bool)):
        found = share_interval(share_count(flags, np.zeros(30, dtype=np.int64)))
        assert (found.low, found.high) == (0, 1)


def test_questions_without_a_cluster_are_clusters_of_their_own() -> None:
    flags = np.arange(12) % 5 == 0
    codes = np.array([0, 0, 0, 1, 1, 1, -1, -1, -1, -1, -1, -1])
    named = np.array([0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7])
    assert share_count(flags, codes) == share_count(flags, named)
    assert share_count(flags, np.full(12, -1)).clusters == 12


def test_without_clusters_it_is_clopper_pearson() -> None:
    count = share_count(np.arange(40) < 3)
    assert (count.events, count.n, count.clusters) == (3, 40, 0)
    assert math.isnan(count.n_effective)
    assert share_interval(count) == clopper_pearson(3, 40)
    assert np.isnan(share_interval(share_count(np.zeros(0, dtype=bool))).high)
    assert np.isnan(share_interval(share_count(np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64))).high)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_rows_are_counted_as_one_by_one(seed: int, clustered: bool) -> None:
    rng = np.random.default_rng(seed)
    flags, asked = rng.random((6, 30)) < 0.3, rng.random((6, 30)) < 0.7
    asked[0], asked[1, 1:], flags[2] = False, False, False
    clusters = rng.integers(-1, 6, 30) if clustered else None
    rows = share_counts(flags, asked, clusters)
    low, high = share_intervals(rows)
    for row in range(6):
        held = asked[row]
        one = share_count(flags[row, held], clusters[held] if clusters is not None else None)
        assert (rows.events[row], rows.n[row], rows.clusters[row]) == (one.events, one.n, one.clusters)
        assert rows.n_effective[row] == pytest.approx(one.n_effective, nan_ok=True)
        found = share_interval(one)
        assert (low[row], high[row]) == pytest.approx((found.low, found.high), nan_ok=True)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_clusters_never_narrow_the_interval(seed: int, each: int) -> None:
    rng = np.random.default_rng(seed)
    flags = rng.random(8 * each) < rng.beta(0.5, 1.5)
    found = share_interval(share_count(flags, np.repeat(np.arange(8), each)))
    plain = share_interval(share_count(flags))
    assert found.low <= plain.low + 1e-12
    assert found.high >= plain.high - 1e-12


def test_scipy_is_loaded_by_the_first_interval_only() -> None:
    code = "import sys, safescale.core.statistics.intervals; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
