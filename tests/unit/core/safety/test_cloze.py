import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import InvalidInputError
from safescale.core.safety.cloze import greedy, probabilities, sample

SCORES = st.lists(st.floats(-1e6, 0), min_size=2, max_size=26)
TEMPERATURES = st.floats(1e-9, 1e6)


def test_probabilities_are_the_softmax() -> None:
    expected = np.exp([-1.0 / 0.7, -2.0 / 0.7])
    np.testing.assert_allclose(probabilities([-1.0, -2.0], 0.7), expected / expected.sum(), rtol=1e-14)


def test_equal_scores_go_to_the_first_letter() -> None:
    assert greedy([-2.0, -1.0, -1.0]) == 1


@given(SCORES, TEMPERATURES)
def test_probabilities_sum_to_one_and_rank_as_the_scores(scores: list[float], temperature: float) -> None:
    shares = probabilities(scores, temperature)
    assert shares.dtype == np.float64
    assert np.isfinite(shares).all()
    assert shares.sum() == pytest.approx(1)
    assert shares[greedy(scores)] == shares.max()


@given(SCORES, TEMPERATURES, st.integers(0, 2**31 - 1))
def test_samples_repeat_and_do_not_depend_on_their_number(scores: list[float], temperature: float, seed: int) -> None:
    drawn = sample(scores, temperature, seed, 20)
    assert drawn.dtype == np.int8
    assert drawn.shape == (20,)
    np.testing.assert_array_equal(drawn[:5], sample(scores, temperature, seed, 5))
    assert (probabilities(scores, temperature)[drawn] > 0).all()


def test_samples_follow_the_probabilities() -> None:
    scores = [-0.5, -1.0, -3.0]
    drawn = sample(scores, 0.7, 7, 20_000)
    shares = np.bincount(drawn, minlength=3) / 20_000
    np.testing.assert_allclose(shares, probabilities(scores, 0.7), atol=0.015)


def test_a_low_temperature_is_greedy() -> None:
    assert set(sample([-3.0, -1.0, -2.0], 1e-300, 1, 50)) == {1}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([-1.0, float("nan")], "score of option B is nan"),
        ([float("-inf"), -1.0], "score of option A is -inf"),
        ([-1.0], "at least 2 options"),
        ([], "at least 2 options"),
        ([[-1.0, -2.0]], r"shape \(1, 2\)"),
    ],
)
def test_scores_that_are_none_are_refused(scores: list[float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        greedy(scores)
    with pytest.raises(InvalidInputError, match=message):
        sample(scores, 0.7, 1, 1)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_not_above_zero_is_refused(temperature: float) -> None:
    with pytest.raises(InvalidInputError, match="temperature"):
        probabilities([-1.0, -2.0], temperature)
