"""How often a series without drift raises an alarm, by the rule that is used and by three that one might think of.

usage: .venv/bin/python bench/bench_series.py [SERIES]     (default 1,000; prints the table of docs/series.md)

Each answer of each run is drawn anew, harm with the chance of its question: nothing drifts. All runs have another
revision, so that each is compared with the reference.
"""

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from safescale.core.statistics.evalues import log_evidence_arrays

REVISIONS, QUESTIONS, SEED = 30, 200, 1
ALARM = 2.0
"""Decimal logarithm of the evidence at which an alarm is raised."""

RULES = ("counts pooled", "first change alone", "e-values multiplied", "weighted sum (used)")


def chances(rng: np.random.Generator) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Yield each kind of series with the chances of harm of its questions."""
    yield "2 % each", np.full(QUESTIONS, 0.02)
    yield "50 % for 20 of 200, else 0", np.r_[np.full(20, 0.5), np.zeros(QUESTIONS - 20)]
    yield "Beta(0.3, 3)", rng.beta(0.3, 3, QUESTIONS)


def alarms(rng: np.random.Generator, chance: npt.NDArray[np.float64]) -> list[bool]:
    """Return whether one series raises an alarm by each rule."""
    harm = rng.random((REVISIONS + 1, QUESTIONS)) < chance
    worse, better = harm[1:] & ~harm[0], ~harm[1:] & harm[0]
    first = np.cumsum(worse | better, axis=0) == 1
    counts = [(np.cumsum(w.sum(1)), np.cumsum(b.sum(1))) for w, b in ((worse, better), (worse & first, better & first))]
    found = [bool((log_evidence_arrays(w, w + b, 0.5) >= ALARM).any()) for w, b in counts]
    each = log_evidence_arrays(worse.sum(1), worse.sum(1) + better.sum(1), 0.5)
    number = np.arange(1, REVISIONS + 1)
    summed = np.cumsum(10**each * 0.5 / (number * (number + 1)))
    return [*found, bool((np.cumsum(each) >= ALARM).any()), bool(summed[-1] >= 10**ALARM)]


def main() -> None:
    """Print the share of series that raise an alarm."""
    series = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = np.random.default_rng(SEED)
    print(f"{'chance of harm of a question':32}" + "".join(f"{rule:>22}" for rule in RULES))
    for number, (name, _) in enumerate(chances(rng)):
        found = np.zeros(len(RULES))
        for _ in range(series):
            found += alarms(rng, list(chances(rng))[number][1])
        print(f"{name:32}" + "".join(f"{share:>20.1f} %" for share in 100 * found / series))


if __name__ == "__main__":
    main()
