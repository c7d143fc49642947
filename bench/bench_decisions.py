"""How often the rules that decide are wrong: false passes, coverage and false alarms, the old rule beside the new.

    python bench/bench_decisions.py [--short] [--write]

Shares and pairs are enumerated: every number of events, with its exact chance. Clusters, alarms and audits are
simulated with fixed seeds, so every run prints the same. Where a rule misses what docs/decisions.md promises, the line
says so and the exit code is 1. `--write` puts the tables into that page; `--short` takes fewer points and simulations.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit
from scipy.stats import binom

from safescale.core.statistics.evalues import ALARM_ERROR, log_evidence_arrays
from safescale.core.statistics.intervals import (
    ShareCounts,
    clopper_pearson,
    clopper_pearson_arrays,
    share_counts,
    share_intervals,
)
from safescale.core.statistics.paired import tango_arrays
from safescale.core.statistics.reading_audit import AuditedStratum, corrected_share
from safescale.core.statistics.sample_size import most_events, size_for_limit, zero_error_size

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Rows = list[list[str]]

PAGE = Path(__file__).parents[1] / "docs" / "decisions.md"
LIMITS = (0.01, 0.02, 0.05, 0.10)
SHOWN = (20, 32, 48, 72, 100, 200, 368, 500, 1000)
HALF = 0.025
Z = 1.959963984540054
ALARM = -np.log10(ALARM_ERROR)


class Findings:
    """Tables by name, and the promises that were missed."""

    def __init__(self) -> None:
        self.tables: dict[str, str] = {}
        self.missed: list[str] = []

    def table(self, name: str, head: Sequence[str], rows: Rows) -> None:
        """Keep a table, and print it."""
        lines = ["| " + " | ".join(cells) + " |" for cells in [head, *rows]]
        lines.insert(1, "|" + "---|" * len(head))
        self.tables[name] = "\n".join(lines)
        print(f"\n{name}\n{self.tables[name]}", flush=True)

    def promise(self, holds: bool, text: str) -> None:
        """Note a promise, and whether it holds."""
        print(("holds: " if holds else "MISSED: ") + text, flush=True)
        if not holds:
            self.missed.append(text)


def percent(share: float) -> str:
    """Write a share as percent."""
    return f"{100 * share:.1f} %"


def beside(old: float, new: float) -> str:
    """Write the old rule's figure beside the new rule's."""
    return f"{100 * old:.1f} → {100 * new:.1f}"


def bootstrap_ends(n: int) -> tuple[Floats, Floats]:
    """Return the old ends for each number of events: percentiles of what a resample of x of n sums to, B(n, x/n)/n."""
    share = np.arange(n + 1) / n
    return binom.ppf(HALF, n, share) / n, binom.ppf(1 - HALF, n, share) / n


Figures = dict[tuple[int, float], list[float]]


def shares(found: Findings, short: bool) -> None:
    """Enumerate false passes and coverage of shares over all n."""
    rates = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
    counted = range(20, 1001, 7 if short else 1)
    passes: Figures = {}
    helpful: Figures = {}
    covers: Figures = {}
    for n in sorted({*counted, *SHOWN}):
        x = np.arange(n + 1)
        rules = bootstrap_ends(n), clopper_pearson_arrays(x, n)
        for limit in LIMITS:
            at, good = binom.pmf(x, n, limit), binom.pmf(x, n, limit / 5)
            passes[n, limit] = [float(at[high <= limit].sum()) for _, high in rules]
            helpful[n, limit] = [float(good[high <= limit].sum()) for _, high in rules]
        for rate in rates:
            chance = binom.pmf(x, n, rate)
            covers[n, rate] = [float(chance[(low <= rate) & (rate <= high)].sum()) for low, high in rules]

    def rows(figures: Figures, columns: Sequence[float]) -> Rows:
        return [[f"{n:,}", *(beside(*figures[n, column]) for column in columns)] for n in SHOWN]

    def worst(figures: Figures, columns: Sequence[float], pick: Callable[[Iterable[float]], float]) -> list[str]:
        ends = [[pick(figures[n, column][rule] for n in counted) for rule in (0, 1)] for column in columns]
        return ["worst of 20 … 1,000", *(beside(*each) for each in ends)]

    head, some = ["n", *(f"limit {percent(limit)}" for limit in LIMITS)], (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    found.table("false pass", head, [*rows(passes, LIMITS), worst(passes, LIMITS, max)])
    found.table("pass", head, rows(helpful, LIMITS))
    of_rates = ["n", *(f"rate {percent(rate)}" for rate in some)]
    found.table("coverage", of_rates, [*rows(covers, some), worst(covers, some, min)])
    most, least = max(new for _, new in passes.values()), min(new for _, new in covers.values())
    found.promise(most <= HALF, f"shares: a model at the limit passes in {percent(most)} at most")
    found.promise(least >= 0.95, f"shares: coverage is {percent(least)} at least")


def sizes(found: Findings) -> None:
    """Tell how many questions a limit needs."""
    parts, rows = (0.1, 0.2, 0.5, 0.8), []
    for limit in (0.10, 0.05, 0.02, 0.01, 0.001):
        needed = [size_for_limit(limit, limit * part, "max") for part in parts]
        allowed = [str(most) if most >= 0 else "not even 0" for most in (most_events(n, limit) for n in (100, 500))]
        rows.append([percent(limit), f"{zero_error_size(limit):,}", *(f"{n:,}" for n in needed), *allowed])
    head = ["limit", "no event among n", *(f"true share {part:g} × limit" for part in parts)]
    found.table("sizes", [*head, "most events of 100", "most events of 500"], rows)


def pairs(found: Findings, short: bool) -> None:
    """Enumerate comparisons of a candidate that is worse by exactly the margin, at many discordances."""
    shown = (20, 32, 50, 100, 200, 500, 1000)
    counted = sorted({*shown, *range(20, 61, 4 if short else 1), *range(70, 201, 50 if short else 10), 300, 700})
    worst: dict[tuple[int, float], Floats] = {}
    for n in counted:
        most = int(min(n, binom.ppf(1 - 1e-9, n, 0.55)))
        worse, better = np.arange(most + 1)[:, np.newaxis], np.arange(min(most, n // 2) + 1)
        within = worse + better <= n
        low, high = tango_arrays(np.where(within, worse, 0), np.where(within, better, 0), n)
        wald = (worse - better) / n + Z * np.sqrt(np.maximum(worse + better - (worse - better) ** 2 / n, 0)) / n
        for margin in LIMITS:
            figures = [np.zeros(4)]
            for discordance in (*(margin * np.array([1, 1.25, 1.5, 2, 3, 5])), 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5):
                if not margin <= discordance <= 0.5:
                    continue
                first, second = (discordance + margin) / 2, (discordance - margin) / 2
                chance = binom.pmf(worse, n, first) * binom.pmf(better, n - worse, second / (1 - first)) * within
                misses = (wald < margin, high < margin, low > margin, (high < margin) | (low > margin))
                figures.append(np.array([chance[miss].sum() for miss in misses]))
            worst[n, margin] = np.max(figures, axis=0)
    rows = [[f"{n:,}", *(beside(*worst[n, margin][:2]) for margin in LIMITS)] for n in shown]
    last = [np.max([worst[n, margin] for n in counted], axis=0) for margin in LIMITS]
    rows.append(["worst of 20 … 1,000", *(beside(*each[:2]) for each in last)])
    rows.append(["false FAIL, worst", *(percent(each[2]) for each in last)])
    rows.append(["coverage, worst", *(percent(1 - each[3]) for each in last)])
    found.table("pairs", ["n", *(f"margin {percent(margin)}" for margin in LIMITS)], rows)
    most_passes = max(each[1] for each in last)
    found.promise(
        most_passes <= 0.03, f"pairs: a candidate worse by the margin passes in {percent(most_passes)} at most"
    )


def korn_graubard(counts: ShareCounts) -> tuple[Floats, Floats]:
    """Return the ends of Korn and Graubard's interval without what is added to it."""
    n, c = counts.n.astype(float), counts.clusters
    ratio = (stdtrit(n - 1, 1 - HALF) / stdtrit(c - 1.0, 1 - HALF)) ** 2
    none = (counts.events == 0) | (counts.events == counts.n)
    effective = np.where(none, c, np.minimum(counts.n_effective * ratio, n))
    return clopper_pearson_arrays(np.minimum(counts.events / n * effective, effective), effective)


def clusters(found: Findings, short: bool) -> None:
    """Simulate clusters whose shares vary by a beta distribution of an intraclass correlation."""
    designs = {
        "50 of 2": [2] * 50, "20 of 5": [5] * 20, "40 of 5": [5] * 40, "10 of 20": [20] * 10, "20 of 20": [20] * 20,
        "50 alone, 5 of 10": [1] * 50 + [10] * 5, "40 alone, 10 of 10, 2 of 40": [1] * 40 + [10] * 10 + [40] * 2,
        "1, 2, 4 … 64": [2**power for power in range(7)],
    }  # fmt: skip
    rates = (0.02, 0.1) if short else (0.01, 0.02, 0.05, 0.1, 0.3, 0.5)
    correlations = (0.0, 0.5) if short else (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
    rng, rows, least = np.random.default_rng(15), [], []
    for name, design in designs.items():
        codes, figures = np.repeat(np.arange(len(design)), design), []
        for rate, correlation in product(rates, correlations):
            scale, shape = (1 - correlation) / max(correlation, 1e-9), (1000 if short else 4000, len(design))
            chance = rng.beta(rate * scale, (1 - rate) * scale, shape) if correlation else np.full(shape, rate)
            flags = rng.random((shape[0], len(codes))) < chance[:, codes]
            counts = share_counts(flags, np.ones_like(flags), codes)
            rules = clopper_pearson_arrays(counts.events, counts.n), korn_graubard(counts), share_intervals(counts)
            hits = [((low <= rate) & (rate <= high)).mean() for low, high in rules]
            figures.append([*hits, *((high < rate).mean() for _, high in rules)])
        coverage, false = np.min(figures, axis=0)[:3], np.max(figures, axis=0)[3:]
        least.append(coverage[2])
        cells = [f"{100 * hit:.1f} / {100 * miss:.1f}" for hit, miss in zip(coverage, false, strict=True)]
        rows.append([name, f"{len(codes)}", *cells])
    found.table("clusters", ["clusters", "questions", "as independent", "Korn–Graubard alone", "the rule"], rows)
    found.promise(min(least) >= 0.935, f"clusters: coverage is {percent(min(least))} at least")


def ever(logs: Floats) -> float:
    """Return the share of series, (s, nights), that raise an alarm."""
    return float((logs.max(axis=1) >= ALARM).mean())


def watched(name: str, events: Counts, n: Counts, limit: float) -> tuple[float, list[str]]:
    """Return the share of series that alarm, and a row: beside a fixed-sample exact test of all so far every night."""
    logs, test = log_evidence_arrays(events, n, limit), binom.sf(events - 1, n, limit) <= ALARM_ERROR
    alarmed = (logs >= ALARM).any(axis=1)
    nights = f"{np.median((logs >= ALARM).argmax(axis=1)[alarmed]) + 1:.0f}" if alarmed.mean() > 0.5 else ""
    return ever(logs), [name, percent(float(test.any(axis=1).mean())), percent(ever(logs)), nights]


def alarms(found: Findings, short: bool) -> None:
    """Simulate series without drift, and with."""
    series, nights = (200, 100) if short else (1000, 500)
    rng = np.random.default_rng(5)
    changes, fifty = rng.poisson(3, (series, nights)), np.full((series, nights), 50)

    def stream(name: str, limit: float, p: float, fresh: Counts) -> tuple[float, list[str]]:
        return watched(name, np.cumsum(rng.binomial(fresh, p), axis=1), np.cumsum(fresh, axis=1), limit)

    quiet = [
        stream("drift: 3 changes a night, worse and better alike", 0.5, 0.5, changes),
        *(stream(f"rate: 50 fresh questions, at the limit of {percent(each)}", each, each, fifty) for each in LIMITS),
    ]
    bank = rng.permuted(np.tile(np.arange(5000) < 250, (series, 1)), axis=1)
    drawn = bank.reshape(series, 100, 50).sum(axis=2).cumsum(axis=1)
    name = "rate: a bank of 5,000 used up in 100 nights, at the limit of 5.0 %"
    quiet.append(watched(name, drawn, np.arange(50, 5001, 50)[np.newaxis], 0.05))
    loud = [
        stream("drift: of 3 changes a night 2 are worse", 0.5, 2 / 3, changes),
        stream("rate: 50 fresh questions of 8.0 %, limit 5.0 %", 0.05, 0.08, fifty),
    ]
    head = [f"{series:,} series of {nights} nights", "exact test every night at 1 %", "evidence at 100", "median night"]
    found.table("alarms", head, [row for _, row in (*quiet, *loud)])
    most = max(share for share, _ in quiet)
    found.promise(most <= ALARM_ERROR, f"alarms: {percent(most)} of series without drift at most")
    revisions(found, series)


def revisions(found: Findings, series: int) -> None:
    """Simulate 50 revisions of a model without drift that are compared with one reference."""
    rng, count, n = np.random.default_rng(6), 50, 200
    stays, sampled = np.zeros((2, 2, series, count), np.int64)
    reference = np.tile(np.arange(n) < 20, (series, 1))
    p = rng.beta(0.2, 1.8, (series, n))
    first, current = rng.random((series, n)) < p, reference.copy()
    for revision in range(count):
        for row, changes in zip(current, rng.poisson(2, series), strict=True):
            for worse in rng.random(changes) < 0.5:
                places = np.flatnonzero(row != worse)
                if len(places):
                    row[rng.choice(places)] = worse
        stays[:, :, revision] = (current & ~reference).sum(axis=1), (~current & reference).sum(axis=1)
        now = rng.random((series, n)) < p
        sampled[:, :, revision] = (now & ~first).sum(axis=1), (~now & first).sum(axis=1)
    weights, rows, most = 0.5 / (np.arange(1, count + 1) * np.arange(2, count + 2)), [], 0.0
    for name, (worse, better) in {"changes that stay": stays, "answers at a temperature": sampled}.items():
        pooled = log_evidence_arrays(worse.cumsum(axis=1), (worse + better).cumsum(axis=1), 0.5)
        each = 10.0 ** np.minimum(log_evidence_arrays(worse, worse + better, 0.5), 300)
        summed = np.log10(np.cumsum(each * weights, axis=1))
        rows.append([name, percent(ever(pooled)), percent(ever(summed))])
        most = max(most, ever(summed))
    found.table("revisions", [f"{count} revisions, no drift", "pooled", "added by weights"], rows)
    found.promise(most <= ALARM_ERROR, f"revisions: {percent(most)} of series without drift at most")


def audits(found: Findings, short: bool) -> None:
    """Simulate audits of a reading that misses some harms and sees some that are none."""
    rng, rows, least = np.random.default_rng(9), [], []
    readings = ((0.05, 0.0, 0.0), (0.05, 0.4, 0.0), (0.05, 1.0, 0.0), (0.10, 0.3, 0.02), (0.0, 0.0, 0.05))
    for (truth, missed, refuted), (n, m) in product(readings, ((200, 50), (1000, 100))):
        hits = []
        for _ in range(200 if short else 1000):
            person = rng.random(n) < truth
            machine = np.where(person, rng.random(n) >= missed, rng.random(n) < refuted)
            drawn = rng.choice(n, m, replace=False)
            more, less = (person & ~machine)[drawn].sum(), (~person & machine)[drawn].sum()
            plain = clopper_pearson(int(machine.sum()), n)
            corrected = corrected_share(int(machine.sum()), n, [AuditedStratum(n, m, int(more), int(less))])
            assert corrected is not None
            length = corrected.high - corrected.low
            hits.append([plain.low <= truth <= plain.high, corrected.low <= truth <= corrected.high, length])
        of_plain, of_corrected, length = np.mean(hits, axis=0)
        cells = [percent(truth), percent(missed), percent(refuted), f"{m} of {n:,}"]
        rows.append([*cells, beside(of_plain, of_corrected), percent(length)])
        least.append(of_corrected)
    head = ["true harm", "of it missed", "of the rest taken for it", "audited", "coverage", "mean length"]
    found.table("audits", head, rows)
    found.promise(min(least) >= 0.95, f"audits: coverage is {percent(min(least))} at least")


def write(tables: dict[str, str]) -> None:
    """Put the tables into the page, between their markers."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = rf"(<!-- table: {name} -->\n)(?:(?!<!--).)*(<!-- end -->)"
        text, times = re.subn(pattern, lambda match, body=table: f"{match[1]}{body}\n{match[2]}", text, flags=re.S)
        if times != 1:
            raise SystemExit(f"{PAGE} has {times} places for the table {name}")
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.short and args.write:
        parser.error("--write takes the whole run")
    found, begin = Findings(), time.perf_counter()
    sizes(found)
    for part in (shares, pairs, clusters, alarms, audits):
        part(found, args.short)
        print(f"{part.__name__}: {time.perf_counter() - begin:.1f} s so far", flush=True)
    if args.write:
        write(found.tables)
    sys.exit(1 if found.missed else 0)


if __name__ == "__main__":
    main()
