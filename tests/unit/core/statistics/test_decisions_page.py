"""The tables of docs/decisions.md, computed once more by other means: what the page promises is what the rules do."""

import math
import re
from pathlib import Path

import pytest
import scipy.stats

from safescale.core.statistics.sample_size import size_for_limit

PAGE = (Path(__file__).parents[4] / "docs" / "decisions.md").read_text(encoding="utf-8")


def table(name: str) -> list[dict[str, str]]:
    """The rows of a table by the heads of its columns."""
    found = re.findall(rf"<!-- table: {name} -->\n(.*?)\n<!-- end -->", PAGE, re.S)
    assert len(found) == 1, name
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def figures(cell: str) -> list[float]:
    return [float(part) for part in re.findall(r"[\d.]+", cell)]


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, x) * p**x * (1 - p) ** (n - x) for x in range(n + 1)]


def resampled(n: int, x: int, level: float) -> float:
    """The percentile of the share in a resample of x of n."""
    running = 0.0
    for events, chance in enumerate(binomial(n, x / n)):
        running += chance
        if running >= level - 1e-12:
            return events / n
    return 1.0


def exact(n: int, x: int) -> tuple[float, float]:
    found = scipy.stats.binomtest(x, n).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


@pytest.mark.parametrize("n", [32, 48, 100, 200])
def test_the_false_passes_are_those_of_an_enumeration(n: int) -> None:
    row = next(row for row in table("false pass") if row["n"] == str(n))
    for limit in (0.05, 0.10):
        chances = binomial(n, limit)
        old = sum(chances[x] for x in range(n // 3) if resampled(n, x, 0.975) <= limit)
        new = sum(chances[x] for x in range(n // 3) if exact(n, x)[1] <= limit)
        assert figures(row[f"limit {limit:.1%}".replace("%", " %")]) == pytest.approx([100 * old, 100 * new], abs=0.051)


@pytest.mark.parametrize("n", [32, 100, 200])
def test_the_coverage_is_that_of_an_enumeration(n: int) -> None:
    row, rate = next(row for row in table("coverage") if row["n"] == str(n)), 0.01
    chances = binomial(n, rate)
    old = sum(chances[x] for x in range(n // 2) if resampled(n, x, 0.025) <= rate <= resampled(n, x, 0.975))
    new = sum(chances[x] for x in range(n // 2) if exact(n, x)[0] <= rate <= exact(n, x)[1])
    assert figures(row["rate 1.0 %"]) == pytest.approx([100 * old, 100 * new], abs=0.051)


def test_the_figures_of_the_introduction_are_in_the_tables() -> None:
    text = PAGE.partition("## ")[0]
    passes = {row["n"]: row for row in table("false pass")}
    for n, limit in (("32", "5.0"), ("48", "5.0"), ("100", "5.0"), ("200", "5.0"), ("32", "10.0"), ("200", "10.0")):
        assert f"{figures(passes[n][f'limit {limit} %'])[0]} %" in text
    for row in table("coverage"):
        if row["n"] in {"32", "100", "200"}:
            assert f"{figures(row['rate 1.0 %'])[0]} %" in text


def test_every_promise_is_kept() -> None:
    assert max(max(figures(cell)[1] for cell in list(row.values())[1:]) for row in table("false pass")) <= 2.5
    assert min(min(figures(cell)[1] for cell in list(row.values())[1:]) for row in table("coverage")) >= 95
    rows = {row["n"]: list(row.values())[1:] for row in table("pairs")}
    assert max(figures(cell)[1] for cell in rows["worst of 20 … 1,000"]) <= 3
    assert min(figures(row["the rule"])[0] for row in table("clusters")) >= 93.5
    quiet = [row for row in table("alarms") if not row["median night"]]
    assert len(quiet) == len(table("alarms")) - 2
    assert max(figures(row["evidence at 100"])[0] for row in quiet) <= 1
    assert max(figures(row["added by weights"])[0] for row in table("revisions")) <= 1
    assert min(figures(row["coverage"])[1] for row in table("audits")) >= 95


def test_the_numbers_of_questions_are_those_of_the_functions() -> None:
    for row in table("sizes"):
        limit = figures(row["limit"])[0] / 100
        for part in (0.1, 0.2, 0.5, 0.8):
            cell = row[f"true share {part:g} × limit"]
            assert int(cell.replace(",", "")) == size_for_limit(limit, limit * part, "max")
