"""From sums over questions to a metric: each function takes the sums of a metric's parts, all of one shape (...).

Where nothing was counted the value is NaN. Parts over bins have a leading axis of bins.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-12
"""A sum of squares around the mean that is this part of the sum of squares, or less, is 0."""


def ratio(total: Floats, counted: Floats) -> Floats:
    """Return a rate or mean: the sum of the values over the number of questions counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / counted


def _spread(deviation: Floats, square: Floats, counted: Floats, ddof: int) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        around = square - deviation * deviation / counted
        # What is left of equal values is rounding, whose root would be a billionth and not the 0 that it is.
        around = np.where(around <= ROUNDING * square, 0.0, around)
        spread = np.sqrt(around / np.maximum(counted - ddof, 1))
    return np.where(counted > 0, spread, np.nan)


def population_sd(deviation: Floats, square: Floats, counted: Floats) -> Floats:
    """Return the standard deviation with ddof 0."""
    return _spread(deviation, square, counted, 0)


def sample_sd(deviation: Floats, square: Floats, counted: Floats) -> Floats:
    """Return the standard deviation with ddof 1; 0 of a single value, as in the reference."""
    return _spread(deviation, square, counted, 1)


def expected_calibration_error(gaps: Floats, counts: Floats, total: Floats) -> Floats:
    """ECE: the mean over bins of |confidence - accuracy|, weighted by the share of the questions in the bin."""
    del counts  # they cancel
    return ratio(np.abs(gaps).sum(axis=0), total)


def maximum_calibration_error(gaps: Floats, counts: Floats, total: Floats) -> Floats:
    """MCE: the largest |confidence - accuracy| of a bin that has questions."""
    largest = np.max(np.abs(gaps) / np.maximum(counts, 1), axis=0)
    return np.where(total > 0, largest, np.nan)
