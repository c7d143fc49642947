import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.statistics.intervals import clopper_pearson
from safescale.core.statistics.paired import tango
from safescale.core.statistics.sample_size import most_events, size_for_limit, size_for_margin, zero_error_size


@pytest.mark.parametrize(("limit", "n"), [(0.05, 72), (0.02, 183), (0.01, 368), (0.001, 3688), (0.5, 6)])
def test_zero_error_sizes(limit: float, n: int) -> None:
    assert zero_error_size(limit) == n


@given(st.floats(0.001, 0.9), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_zero_error_size_passes_and_one_less_does_not(limit: float, confidence: float) -> None:
    n = zero_error_size(limit, confidence)
    assert clopper_pearson(0, n, confidence).high <= limit
    assert n == 1 or clopper_pearson(0, n - 1, confidence).high > limit


@given(st.integers(1, 500), st.floats(0.01, 0.99), st.sampled_from([0.9, 0.95]))
def test_the_most_events_pass_and_one_more_does_not(n: int, limit: float, confidence: float) -> None:
    most = most_events(n, limit, confidence)
    if most >= 0:
        assert clopper_pearson(most, n, confidence).high <= limit
    if most < n:
        assert clopper_pearson(most + 1, n, confidence).high > limit


def test_limits_at_the_ends() -> None:
    assert most_events(0, 0.5) == -1
    assert most_events(100, 0.0) == -1
    assert most_events(100, 1.0) == 100
    assert size_for_limit(0.0, 0.0, "max") is None
    assert size_for_limit(1.0, 0.7, "max") == 1
    for limit in (0.0, 1.0):
        with pytest.raises(ValueError, match="limit"):
            zero_error_size(limit)
    with pytest.raises(ValueError, match="share"):
        size_for_limit(0.05, float("nan"), "max")


def enumerated_size(limit: float, rate: float, power: float, confidence: float, most: int) -> int:
    """The first n from which on no power up to n = most is too small, one n at a time."""
    n = np.arange(1, most + 1)
    allowed = scipy.stats.binom.ppf((1 - confidence) / 2, n, limit)
    allowed = np.where(scipy.stats.binom.cdf(allowed, n, limit) <= (1 - confidence) / 2, allowed, allowed - 1)
    powers = scipy.stats.binom.cdf(allowed, n, rate)
    return int(np.append(0, n[powers < power])[-1]) + 1  # no questions never pass


@settings(max_examples=25)
@given(
    st.floats(0.02, 0.95), st.floats(0.0, 0.6), st.sampled_from([0.5, 0.8, 0.95]), st.sampled_from([0.8, 0.95, 0.99])
)
def test_the_size_is_that_of_an_enumeration(limit: float, part: float, power: float, confidence: float) -> None:
    rate = limit * part
    wanted = enumerated_size(limit, rate, power, confidence, 10_000)
    assert size_for_limit(limit, rate, "max", power, confidence) == wanted
    mirrored = size_for_limit(1 - limit, 1 - rate, "min", power, confidence)
    assert mirrored is not None
    assert abs(mirrored - wanted) <= 1  # 1 − (1 − limit) is not the limit to the last bit.


def test_sizes_by_hand() -> None:
    # With no harm at all a model passes as soon as none of n is few enough.
    assert size_for_limit(0.05, 0.0, "max") == zero_error_size(0.05)
    assert size_for_limit(0.05, 0.05, "max") is None
    assert size_for_limit(0.05, 0.08, "max") is None
    assert size_for_limit(0.9, 0.85, "min") is None
    assert size_for_limit(0.05, 0.0499999, "max") is None


def test_a_rate_close_to_the_limit_takes_many_questions_and_little_time() -> None:
    n = size_for_limit(0.05, 0.0499, "max")
    assert n is not None
    assert 30_000_000 < n < 45_000_000
    assert scipy.stats.binom.cdf(most_events(n, 0.05), n, 0.0499) >= 0.8


def test_the_size_for_a_margin_is_that_of_the_formula() -> None:
    assert size_for_margin(0.02, 0.06, confidence=0.90) == 927
    # (1.959964 + 0.841621)² · 0.06/0.0004 = 1177.3
    assert size_for_margin(0.02, 0.06) == 1177
    # A true difference of one point halves the distance: (0.06 − 0.0001)/0.0001.
    assert size_for_margin(0.02, 0.06, confidence=0.90, difference=0.01) == 3703
    assert size_for_margin(0.02, 0.06, difference=0.02) is None
    for margin, discordance, difference in ((0.0, 0.1, 0.0), (0.02, 1.1, 0.0), (0.02, 0.01, 0.015)):
        with pytest.raises(ValueError, match="margin"):
            size_for_margin(margin, discordance, difference=difference)


@given(st.floats(0.005, 0.3), st.sampled_from([0.8, 0.9, 0.95]))
def test_without_discordance_as_many_are_needed_as_pass(margin: float, confidence: float) -> None:
    n = size_for_margin(margin, 0.0, confidence=confidence)
    assert n is not None
    assert tango(0, 0, n, confidence).high < margin
    assert tango(0, 0, n - 1, confidence).high >= margin - 1e-12
