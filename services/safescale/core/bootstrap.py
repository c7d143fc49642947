"""The bootstrap over questions: one seeded matrix of indices for every model, condition, regime (protocol section 5).

A resample is a count of how often each question is drawn, so the sums of any per-question values over all resamples
are one matrix product; every metric is a function of such sums.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
SEED = 42
LOW, HIGH = 0.025, 0.975


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Mean, standard deviation (ddof 1) and 2.5 and 97.5 percentiles over the resamples; NaN where undefined."""

    mean: Floats
    sd: Floats
    low: Floats
    high: Floats


def index_matrix(n_questions: int, resamples: int = RESAMPLES, seed: int = SEED) -> npt.NDArray[np.int32]:
    """Indices of the questions drawn: (B, n) int32. The same for the same three numbers, always."""
    return np.random.default_rng(seed).integers(0, n_questions, size=(resamples, n_questions), dtype=np.int32)


def draw_counts(indices: npt.NDArray[np.int32]) -> Floats:
    """How often each question is drawn in each resample: (n, B) float64 of indices (B, n), ready for a product."""
    resamples, n_questions = indices.shape
    flat = indices + (np.arange(resamples, dtype=np.int64) * n_questions)[:, np.newaxis]
    counts = np.bincount(flat.ravel(), minlength=resamples * n_questions)
    return np.ascontiguousarray(counts.reshape(resamples, n_questions).T, dtype=np.float64)


def resampled_sums(values: npt.NDArray[np.generic], draws: Floats) -> Floats:
    """Sums of per-question values over each resample: (..., B) float64 of values (..., n) and draws (n, B)."""
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64, copy=False)
    return (flat @ draws).reshape(*values.shape[:-1], draws.shape[1])


def summarise(distribution: Floats) -> Bootstrap:
    """Summaries over the last axis of (..., B) float64; each of shape (...).

    A resample in which the metric is not defined (NaN: nothing to average) is left out; with fewer than two left, the
    standard deviation is NaN, with none, all are. Percentiles interpolate linearly, as numpy does.
    """
    flat = distribution.reshape(-1, distribution.shape[-1])
    out = np.full((4, len(flat)), np.nan)
    whole = ~np.isnan(flat).any(axis=1)
    if whole.all():
        out[:] = _summarise_whole(flat)
    else:
        out[:, whole] = _summarise_whole(flat[whole])
        out[:, ~whole] = _summarise_holed(flat[~whole])
    mean, sd, low, high = out.reshape(4, *distribution.shape[:-1])
    return Bootstrap(mean, sd, low, high)


def _summarise_whole(flat: Floats) -> Floats:
    count = flat.shape[1]
    below, above = LOW * (count - 1), HIGH * (count - 1)
    ranks = sorted({min(int(at) + step, count - 1) for at in (below, above) for step in (0, 1)})
    parted = np.partition(flat, ranks, axis=1)
    mean = flat.mean(axis=1)
    sd = flat.std(axis=1, ddof=1) if count > 1 else np.full(len(flat), np.nan)
    places = np.full(len(flat), below), np.full(len(flat), above)
    return np.stack([mean, sd, *(_interpolate(parted, place) for place in places)])


def _summarise_holed(flat: Floats) -> Floats:
    ordered = np.sort(flat, axis=1)  # NaN last
    held = ~np.isnan(ordered)
    count = held.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(held, ordered, 0.0).sum(axis=1) / count
        squares = np.where(held, (ordered - mean[:, np.newaxis]) ** 2, 0.0).sum(axis=1)
        sd = np.sqrt(squares / (count - 1))
    sd[count < 2] = np.nan
    last = np.maximum(count - 1, 0)
    return np.stack([mean, sd, _interpolate(ordered, LOW * last), _interpolate(ordered, HIGH * last)])


def _interpolate(ordered: Floats, place: Floats) -> Floats:
    """The value at a fractional rank of each row; the ranks on either side of it must be in their sorted places."""
    below = place.astype(np.intp)
    rows = np.arange(len(ordered))
    share = place - below
    low = ordered[rows, below]
    high = ordered[rows, np.minimum(below + (share > 0), ordered.shape[1] - 1)]
    between: Floats = low + (high - low) * share
    return between
