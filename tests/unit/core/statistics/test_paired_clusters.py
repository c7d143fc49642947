"""The difference of paired shares where questions come in clusters."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.statistics.paired import tango
from safescale.core.statistics.paired_clusters import tango_clustered


def signs(worse: int, better: int, n: int) -> np.ndarray:
    return np.array([1] * worse + [-1] * better + [0] * (n - worse - better))


def test_questions_of_their_own_are_independent() -> None:
    alone = np.full(200, -1)
    assert tango_clustered(signs(5, 2, 200), alone) == (tango(5, 2, 200), 200.0)
    assert math.isnan(tango_clustered(signs(0, 0, 0), np.array([], dtype=np.int64))[0].low)


def test_without_a_discordant_pair_each_cluster_is_one_voice() -> None:
    interval, effective = tango_clustered(signs(0, 0, 200), np.arange(200) // 5)
    assert effective == 40
    assert interval == tango(0, 0, 40)
    # Of unlike sizes fewer: (Σm)²/Σm².
    sizes = np.array([0] * 20 + list(range(1, 21)))
    assert tango_clustered(signs(0, 0, 40), sizes)[1] == pytest.approx(40**2 / (20**2 + 20))


def test_clusters_that_answer_alike_know_as_much_as_their_number() -> None:
    pattern = np.array([1] * 6 + [-1] * 2 + [0] * 42)
    interval, effective = tango_clustered(np.repeat(pattern, 4), np.repeat(np.arange(50), 4))
    assert effective == pytest.approx(50, rel=0.1)
    plain = tango(24, 8, 200)
    assert interval.low < plain.low
    assert interval.high > plain.high


def test_spread_evenly_over_clusters_they_hardly_matter() -> None:
    rng = np.random.default_rng(3)
    spread = rng.permutation(signs(20, 20, 400))
    interval, effective = tango_clustered(spread, np.arange(400) // 4)
    assert effective > 300
    assert interval.high == pytest.approx(tango(20, 20, 400).high, abs=0.01)


def test_one_cluster_says_nothing_of_how_clusters_differ() -> None:
    assert tango_clustered(signs(3, 1, 50), np.zeros(50, dtype=np.int64))[0].high == 1
    nearly = np.array([0] * 300 + [1])
    assert tango_clustered(signs(9, 3, 301), nearly)[0].low == -1


def test_discordant_pairs_of_few_clusters_say_no_more_than_none() -> None:
    held = np.zeros(200, dtype=np.int64)
    held[:3] = -1
    interval, _ = tango_clustered(held, np.arange(200) // 5)
    # All three are better, in one cluster: others could hold as many that are worse.
    assert interval.high >= tango(0, 0, 40).high


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.4]))
def test_the_interval_is_antisymmetric_and_never_narrower_by_more_clusters_than_pairs(seed: int, icc: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, 30)
    codes = np.repeat(np.arange(30), sizes)
    chance = np.repeat(rng.random(30) < 0.3 if icc else np.full(30, 0.2), sizes)
    found = np.where(rng.random(len(codes)) < chance * 0.6, rng.choice([1, -1], len(codes)), 0)
    interval, effective = tango_clustered(found, codes)
    mirrored, same = tango_clustered(-found, codes)
    assert effective == pytest.approx(same)
    assert (mirrored.low, mirrored.high) == (pytest.approx(-interval.high), pytest.approx(-interval.low))
    assert 0 < effective <= len(codes)
    assert interval.low <= found.mean() <= interval.high
    wider, _ = tango_clustered(found, codes, 0.99)
    assert wider.low <= interval.low
    assert wider.high >= interval.high


def test_coverage_holds_where_questions_of_a_cluster_are_answered_alike() -> None:
    rng = np.random.default_rng(11)
    worse, better, runs = 0.1, 0.03, 400
    shape = np.array([worse, better, 1 - worse - better]) * (1 / 0.3 - 1)
    covered = plain = 0
    codes = np.repeat(np.arange(40), 5)
    for _ in range(runs):
        gammas = rng.gamma(shape, size=(40, 3))
        chances = np.repeat(gammas / gammas.sum(axis=1, keepdims=True), 5, axis=0)
        drawn = rng.random(200)
        held = np.where(drawn < chances[:, 0], 1, np.where(drawn < chances[:, :2].sum(axis=1), -1, 0))
        interval, _ = tango_clustered(held, codes)
        covered += interval.low <= worse - better <= interval.high
        naive = tango(int((held > 0).sum()), int((held < 0).sum()), 200)
        plain += naive.low <= worse - better <= naive.high
    # Nominal 95 %: within the error of 400 runs of 93.5 %, where the plain interval misses one in six.
    assert covered / runs > 0.91
    assert plain / runs < 0.9
