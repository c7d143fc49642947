"""Evidence of a change that may be looked at every night: e-processes, valid at any time.

An e-process is a wager at fair odds: under the null hypothesis its expectation is at most 1 whenever one stops, so the
chance that it ever reaches 1/α is at most α (Ville 1939; Ramdas, Grünwald, Vovk and Shafer, Statistical Science 38
(2023) 576). An alarm is raised where the evidence is 1/α or more. Looking costs nothing, and nothing is ever reset.

All of them are one mixture of likelihood ratios. For each alternative q > L, each outcome multiplies the wager by q/L
if it is an event and by (1−q)/(1−L) if not; where events have the chance p ≤ L this has the expectation
p·q/L + (1−p)·(1−q)/(1−L), which rises with p and is 1 at p = L. So it is a supermartingale for every p ≤ L, also where
p changes from draw to draw, and so is its mean over q, here Jeffreys' prior Beta(½, ½) restricted to q > L.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ALARM_ERROR = 0.01
"""α: at most one of a hundred series without a change ever raises an alarm."""
_LEAST_TAIL = 1e-280
"""Below this a tail of the beta distribution may have lost digits."""


def drift_evidence(worse: int, better: int) -> float:
    """Return the evidence that more questions got worse than better since the reference; infinite beyond 1e308.

    Without drift each question whose outcome differs between the reference and one later run is a fair coin, worse or
    better: L = ½. That holds for one comparison with a reference: `core.decisions.series` says how those of many runs
    are added. Neither may their counts be summed, nor may a change count when it is first seen: where harm is rare,
    nearly every question that ever changes gets worse first.
    """
    return _power_of_ten(log_drift_evidence(worse, better))


def log_drift_evidence(worse: int, better: int) -> float:
    """Return the decimal logarithm of `drift_evidence`."""
    return float(log_evidence_arrays(np.array([worse]), np.array([worse + better]), 0.5)[0])


def two_sided_drift_evidence(worse: int, better: int) -> float:
    """Return the evidence that questions changed in one direction, whichever: 2^m·B(k+½, m−k+½)/B(½, ½), k of m worse.

    The mixture of Robbins (Annals of Mathematical Statistics 41 (1970) 1397) and of Krichevsky and Trofimov.
    """
    if worse < 0 or better < 0:
        raise ValueError("counts are fewer than 0")
    m = worse + better
    logs = m * math.log(2) + _log_beta(worse + 0.5, better + 0.5) - math.log(math.pi)
    return _power_of_ten(logs / math.log(10))


def rate_evidence(blocks: Sequence[tuple[int, int]], limit: float) -> float:
    """Return the evidence after blocks of fresh questions, (events, n) each, that their share is over a limit.

    For a least share (`min`) give what is no event and 1 − limit. Questions drawn without replacement from a bank are
    independent where the bank is itself a sample of the questions that could be asked: a random order leaves it one.
    Against the share of the bank itself the error is at most 2α: a bank of M whose number of events is binomial (M, L)
    would make independent draws, error at most α; at least every other such bank has L·M events or more, and more
    events only raise the evidence. A question that is drawn again for the same revision is no new evidence.
    """
    return _power_of_ten(float(log_rate_evidence(blocks, limit)[-1]) if blocks else 0.0)


def log_rate_evidence(blocks: Sequence[tuple[int, int]], limit: float) -> Floats:
    """Return the decimal logarithm of `rate_evidence` after each block, (b,); the first at 2 or above is an alarm."""
    events = np.array(list(accumulate(block[0] for block in blocks)), dtype=np.int64)
    n = np.array(list(accumulate(block[1] for block in blocks)), dtype=np.int64)
    if any(not 0 <= block[0] <= block[1] for block in blocks):
        raise ValueError("events of a block are fewer than 0 or more than its questions")
    return log_evidence_arrays(events, n, limit)


def log_evidence_arrays(events: npt.ArrayLike, n: npt.ArrayLike, limit: float) -> Floats:
    """Return the decimal logarithms of the evidence that events among n have a chance over the limit L.

    E = U(x+½, n−x+½) / (U(½, ½)·L^x·(1−L)^(n−x)), with U(a, b) = ∫ q^(a−1)(1−q)^(b−1) dq from L to 1.
    """
    arrays = np.broadcast_arrays(np.asarray(events, np.float64), np.asarray(n, np.float64))
    x, total = (each.ravel() for each in arrays)
    if not 0 <= limit <= 1:
        raise ValueError(f"a limit of {limit} is not a share")
    if ((x < 0) | (x > total)).any():
        raise ValueError("events are fewer than 0 or more than n")
    if limit == 1:
        return np.zeros(arrays[0].shape)
    with np.errstate(divide="ignore"):
        against = np.where(x > 0, x * np.log(limit), 0.0) if limit else np.where(x > 0, -np.inf, 0.0)
    against = against + (total - x) * math.log1p(-limit)
    prior = _log_upper_beta(np.array([0.5]), np.array([0.5]), limit)
    logs = (_log_upper_beta(x + 0.5, total - x + 0.5, limit) - prior - against) / math.log(10)
    return np.asarray(logs, np.float64).reshape(arrays[0].shape)


def _log_upper_beta(a: Floats, b: Floats, limit: float) -> Floats:
    """Return log ∫ q^(a−1)(1−q)^(b−1) dq from the limit to 1, (m,) of (m,) a and b."""
    # Imported here: loading it takes longer than most commands.
    from scipy.special import betaincc, betaln

    tail = betaincc(a, b, limit)
    logs = betaln(a, b) + np.log(np.maximum(tail, _LEAST_TAIL))
    for index in np.flatnonzero(tail < _LEAST_TAIL):
        logs[index] = _log_small_tail(float(a[index]), float(b[index]), limit)
    return np.asarray(logs, np.float64)


def _log_small_tail(a: float, b: float, limit: float) -> float:
    """Return the same where far fewer events than the limit came: (1−L)^b·L^a/b · ₂F₁(a+b, 1; b+1; 1−L), as its series.

    NIST Digital Library of Mathematical Functions 8.17.8. All terms are positive; each is less than the one before by
    at least the larger of the first ratio and the last, 1 − L.
    """
    ratio = max((a + b) / (b + 1), 1.0) * (1 - limit)
    steps = np.arange(math.ceil(-42 / math.log(ratio)))
    logs = np.cumsum(np.log((a + b + steps) / (b + 1 + steps)) + math.log1p(-limit))
    return b * math.log1p(-limit) + a * math.log(limit) - math.log(b) + math.log1p(float(np.exp(logs).sum()))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _power_of_ten(logarithm: float) -> float:
    return math.inf if logarithm > 308 else 10.0**logarithm
