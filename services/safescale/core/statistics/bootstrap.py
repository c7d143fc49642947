"""The bootstrap over questions: one seeded matrix of indices for every model, condition, regime (protocol section 5).

A resample is a count of how often each question is drawn, so the sums of any per-question values over all resamples
are one matrix product; every metric is a function of such sums.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LOW, HIGH = 0.025, 0.975


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Mean, standard deviation (ddof 1) and 2.5 and 97.5 percentiles over the resamples; NaN where undefined."""

    mean: Floats
    sd: Floats
    low: Floats
    high: Floats


def index_matrix(n_questions: int, resamples: int, seed: int) -> npt.NDArray[np.int32]:
    """Return indices of the questions drawn: (B, n) int32. The same for the same three numbers, always."""
    return np.random.default_rng(seed).integers(0, n_questions, size=(resamples, n_questions), dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Draws:
    """How often each question is drawn in each resample: (n, B), in double and in single precision.

    `totals` are the questions in each resample: (1,) where all have as many, else (B,).
    """

    double: Floats
    single: npt.NDArray[np.float32]
    totals: Floats


def draw_counts(indices: npt.NDArray[np.int32]) -> Draws:
    """Return the draws of indices (B, n), laid out for a product."""
    double = _times_drawn(indices)
    return Draws(double, double.astype(np.float32), np.array([float(len(double))]))


def question_draws(n_questions: int, resamples: int, seed: int, clusters: npt.NDArray[np.int64] | None = None) -> Draws:
    """Return seeded draws of questions, or of whole clusters where questions have codes of them (n,).

    Questions of one cluster are not independent, so they are drawn together (Davison and Hinkley, Bootstrap Methods and
    their Application, 1997, section 3.8); a resample has as many clusters as there are. A negative code is a cluster of
    its own.
    """
    if clusters is None or n_questions == 0:
        return draw_counts(index_matrix(n_questions, resamples, seed))
    codes = cluster_codes(clusters)
    drawn = _times_drawn(index_matrix(int(codes.max()) + 1, resamples, seed))
    double = np.ascontiguousarray(drawn[codes])
    return Draws(double, double.astype(np.float32), double.sum(axis=0))


def cluster_codes(clusters: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return codes from 0 without a gap; each negative code is a cluster of its own."""
    alone = clusters < 0
    codes = np.where(alone, clusters.max(initial=0) + np.cumsum(alone), clusters)
    return np.unique(codes, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _times_drawn(indices: npt.NDArray[np.int32]) -> Floats:
    """Return how often each of n is drawn in each of B resamples: (n, B) of indices (B, n)."""
    resamples, n = indices.shape
    flat = indices + (np.arange(resamples, dtype=np.int64) * n)[:, np.newaxis]
    counts = np.bincount(flat.ravel(), minlength=resamples * n)
    return np.ascontiguousarray(counts.reshape(resamples, n).T, dtype=np.float64)


def resampled_sums(values: npt.NDArray[Any], draws: Draws) -> Floats:
    """Return the sums of per-question values over each resample: (..., B) float64 of values (..., n).

    Of booleans and of int8 in -1, 0, 1 the product is taken in single precision, which is twice as fast and exact:
    the sums are integers below 2^24.
    """
    flat = values.reshape(-1, values.shape[-1])
    if flat.dtype in {np.dtype(np.bool_), np.dtype(np.int8)}:
        sums = (flat.astype(np.float32) @ draws.single).astype(np.float64)
    else:
        sums = flat.astype(np.float64, copy=False) @ draws.double
    return sums.reshape(*values.shape[:-1], -1)


def summarise(distribution: Floats) -> Bootstrap:
    """Summaries over the last axis of (..., B) float64; each of shape (...).

    A resample in which the metric is not defined (NaN: nothing to average) is left out; with fewer than two left, the
    standard deviation is NaN, with none, all are. Percentiles interpolate linearly, as numpy does.
    """
    flat = np.sort(distribution.reshape(-1, distribution.shape[-1]), axis=1)  # NaN last
    count = np.full(len(flat), flat.shape[1])
    mean, sd = flat.mean(axis=1), flat.std(axis=1, ddof=1) if flat.shape[1] > 1 else np.full(len(flat), np.nan)
    holed = np.isnan(flat[:, -1])
    if holed.any():
        count[holed], mean[holed], sd[holed] = _moments(flat[holed])
    last = np.maximum(count - 1, 0)
    low, high = (_interpolate(flat, share * last) for share in (LOW, HIGH))
    shape = distribution.shape[:-1]
    return Bootstrap(mean.reshape(shape), sd.reshape(shape), low.reshape(shape), high.reshape(shape))


def _moments(ordered: Floats) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """Return the number, mean and standard deviation of the values of each row that are not NaN."""
    held = ~np.isnan(ordered)
    count = held.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(held, ordered, 0.0).sum(axis=1) / count
        squares = np.where(held, (ordered - mean[:, np.newaxis]) ** 2, 0.0).sum(axis=1)
        sd = np.sqrt(squares / (count - 1))
    sd[count < 2] = np.nan
    return count, mean, sd


def _interpolate(ordered: Floats, place: Floats) -> Floats:
    """Return the value at a fractional rank of each sorted row."""
    below = place.astype(np.intp)
    rows = np.arange(len(ordered))
    share = place - below
    low = ordered[rows, below]
    high = ordered[rows, np.minimum(below + (share > 0), ordered.shape[1] - 1)]
    between: Floats = low + (high - low) * share
    return between
