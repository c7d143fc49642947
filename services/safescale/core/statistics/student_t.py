"""Student's t distribution for whole degrees of freedom, from its finite series (Abramowitz and Stegun, 26.7.3-4).

scipy has it too, but importing that takes longer than the whole analysis of a paper's answers.
"""

import math
from functools import lru_cache


def central_probability(t: float, freedom: int) -> float:
    """P(|T| < |t|) for `freedom` degrees of freedom, at least 1; absolute error of about 1e-15."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(freedom // 2):
        total += term
        term *= cosine * cosine * (2 * step + 1 + odd) / (2 * step + 2 + odd)
    if odd:
        return 2 / math.pi * (angle + sine * total)
    return sine * total


def two_sided_p(t: float, freedom: int) -> float:
    """P(|T| >= |t|): the two-sided p-value of a t statistic; at least 0."""
    return max(0.0, 1.0 - central_probability(t, freedom))


@lru_cache(maxsize=4096)
def central_quantile(probability: float, freedom: int) -> float:
    """The t within which T lies with a probability in (0, 1): 12.706… for 0.95 and one degree of freedom."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    t = 0.0
    # Newton's steps from below never overshoot, since the probability is a concave function of t.
    for _ in range(200):
        density = 2 * scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2)
        step = (probability - central_probability(t, freedom)) / density
        t += step
        if abs(step) <= 1e-14 * t:
            break
    return t
