import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.statistics.bootstrap import draw_counts, index_matrix, resampled_sums, summarise


def test_the_indices_are_those_of_the_protocol() -> None:
    expected = np.random.default_rng(42).integers(0, 60, size=(1000, 60), dtype=np.int32)
    assert np.array_equal(index_matrix(60, 1000, 42), expected)


def test_another_seed_gives_other_indices() -> None:
    assert not np.array_equal(index_matrix(9, 5, 1), index_matrix(9, 5, 2))


@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 10**6))
def test_sums_are_those_of_drawing(n: int, resamples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    indices = index_matrix(n, resamples, seed)
    draws = draw_counts(indices)
    for values in (rng.normal(size=(2, 3, n)), rng.random((2, 3, n)) < 0.5, rng.integers(-1, 2, (2, n), dtype=np.int8)):
        expected = values.astype(np.float64)[..., indices].sum(axis=-1)
        sums = resampled_sums(values, draws)
        assert sums.dtype == np.float64
        assert np.allclose(sums, expected, rtol=0, atol=1e-12)
        if values.dtype != np.float64:
            assert np.array_equal(sums, expected)


def test_each_resample_draws_as_many_questions_as_there_are() -> None:
    draws = draw_counts(index_matrix(7, 11, 3))
    assert draws.double.shape == (7, 11)
    assert (draws.double.sum(axis=0) == 7).all()


@given(st.integers(2, 40), st.integers(0, 10**6), st.floats(0, 0.9))
def test_summaries_are_numpys_over_what_is_defined(resamples: int, seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, 2, resamples))
    values[rng.random(values.shape) < missing] = np.nan
    values[0, 0] = rng.normal(size=resamples)
    found = summarise(values)
    for place in np.ndindex(3, 2):
        kept = values[place][~np.isnan(values[place])]
        if len(kept) == 0:
            assert np.isnan([found.mean[place], found.sd[place], found.low[place], found.high[place]]).all()
            continue
        low, high = np.percentile(kept, [2.5, 97.5])
        assert found.mean[place] == pytest.approx(kept.mean())
        assert found.low[place] == pytest.approx(low)
        assert found.high[place] == pytest.approx(high)
        if len(kept) > 1:
            assert found.sd[place] == pytest.approx(kept.std(ddof=1))
        else:
            assert np.isnan(found.sd[place])


def test_one_resample_has_no_spread() -> None:
    found = summarise(np.array([[0.25]]))
    assert found.mean[0] == found.low[0] == found.high[0] == 0.25
    assert np.isnan(found.sd[0])
