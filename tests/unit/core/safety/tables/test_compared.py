"""Two sides of a comparison against the definitions in plain Python."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import oracle
from tests.support.factories.answers import Sample, sample

from safescale.core.safety.metrics import COMPARED, METRICS
from safescale.core.safety.tables.compared import (
    GRAVEST_FIRST,
    CompareOptions,
    Comparison,
    ModelPair,
    compare_answers,
)
from safescale.core.statistics.paired import tango
from safescale.core.statistics.stats import holm

PAIRS = [ModelPair("m", "m"), ModelPair("new", "old"), ModelPair("new", "nobody")]
MODELS = ("candidate/m", "baseline/m", "candidate/new", "baseline/old")


def compared(made: Sample, **options) -> Comparison:
    given_options = CompareOptions(**{"question_count": 12, **options})
    return compare_answers([(made.answers, made.labels)], PAIRS, given_options)


def event(row: oracle.Answered, metric: str, regime: str) -> bool:
    if metric == "dangerous_overconfidence_rate":
        return oracle._dangerous(row)
    if metric == "accuracy":
        letter = row.greedy if regime == "greedy" else oracle.null_ballot_vote(row.samples)
        return letter == row.truth.correct
    letter = row.greedy if regime == "greedy" else oracle.drop_null_vote(row.samples)
    return oracle.is_error(row, letter, oracle.FLAGS[metric])


def answered(rows: dict[str, oracle.Answered], metric: str, regime: str) -> set[str]:
    if regime == "greedy":
        return {name for name, row in rows.items() if row.greedy != ""}
    if metric == "dangerous_overconfidence_rate":
        return {name for name, row in rows.items() if row.samples}
    return set(rows) if any(row.samples for row in rows.values()) else set()


def expected(made: Sample, pair: ModelPair, condition: str, metric: str, regime: str) -> tuple[int, ...] | None:
    sides = [made.rows.get((f"{side}/{model}", condition), {}) for side, model in
             (("candidate", pair.candidate), ("baseline", pair.baseline))]  # fmt: skip
    common = set.intersection(*(answered(rows, metric, regime) for rows in sides))
    if not common:
        return None
    events = [[event(rows[name], metric, regime) for name in sorted(common)] for rows in sides]
    pairs = list(zip(*events, strict=True))
    return len(pairs), pairs.count((True, False)), pairs.count((False, True)), pairs.count((True, True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_rows_are_those_of_the_questions_that_both_answered(seed: int) -> None:
    made = sample(seed, models=MODELS, gaps=0.2, drawn=4)
    found = {(row.pair, row.condition, row.regime, row.metric): row for row in compared(made).rows}
    regimes = {metric.name: metric.regimes for metric in METRICS}
    for pair, condition, metric, regime in product(PAIRS, made.answers.conditions, COMPARED, ("greedy", "majority")):
        wanted = expected(made, pair, condition, metric, regime) if regime in regimes[metric] else None
        if wanted is None:
            assert (pair, condition, regime, metric) not in found
            continue
        row = found.pop((pair, condition, regime, metric))
        n, worse, better, _ = wanted
        shares = row.shares
        assert (shares.n, shares.measured.only_candidate, shares.measured.only_baseline, shares.both) == wanted
        assert row.left_out == 12 - n
        assert shares.measured.difference == pytest.approx((worse - better) / n)
        assert shares.measured.interval == tango(worse, better, n)
        assert shares.p_value == pytest.approx(oracle.mcnemar(worse, better))
    assert found == {}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_flips_are_the_questions_whose_outcome_differs_gravest_first(seed: int) -> None:
    made = sample(seed, models=MODELS, drawn=4)
    comparison = compared(made)
    counted = {
        (row.pair, row.condition, row.regime, row.metric): row.shares.measured.only_candidate
        + row.shares.measured.only_baseline
        for row in comparison.rows
    }
    told = dict.fromkeys(counted, 0)
    for flip in comparison.flips:
        assert flip.flip.worse or flip.flip.better
        for metric in (*flip.flip.worse, *flip.flip.better):
            told[flip.pair, flip.condition, flip.regime, metric] += 1
    assert told == counted
    ranks = [min((GRAVEST_FIRST.index(name) for name in one.flip.worse), default=99) for one in comparison.flips]
    assert ranks == sorted(ranks)


def test_p_values_are_adjusted_over_all_rows_of_the_comparison() -> None:
    rows = compared(sample(5, models=MODELS, n_questions=40)).rows
    assert [row.shares.p_holm for row in rows] == holm([row.shares.p_value for row in rows])


def test_the_confidence_widens_every_interval() -> None:
    made = sample(7, models=MODELS)
    for narrow, wide in zip(compared(made, confidence=0.9).rows, compared(made, confidence=0.99).rows, strict=True):
        assert wide.shares.measured.interval.low < narrow.shares.measured.interval.low
        assert narrow.shares.measured.interval.high < wide.shares.measured.interval.high


def test_only_the_regimes_that_are_alike_are_compared() -> None:
    found = compared(sample(7, models=MODELS), regimes=("greedy",))
    assert {row.regime for row in found.rows} == {"greedy"}
    assert {flip.regime for flip in found.flips} == {"greedy"}
