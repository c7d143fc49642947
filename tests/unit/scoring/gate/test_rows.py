import math
from typing import Any

import pytest

from safescale.core.errors import InvalidInputError, LimitExceededError
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.gate.rows import MAX_ROWS, checked_rows


def row(**changes: Any) -> pb.MetricRow:
    fields: dict[str, Any] = {
        "model": "m", "condition": "zero_shot", "regime": "greedy", "metric": "high_risk_error_rate", "value": 0.25,
        "ci_low": 0.0, "ci_high": 0.5, "n": 8, "measured": pb.ShareCount(events=2),
        "worst_case": pb.ShareCount(events=3), "n_unread": 1,
    }  # fmt: skip
    return pb.MetricRow(**(fields | changes))


def mean(**changes: Any) -> pb.MetricRow:
    fields: dict[str, Any] = {"regime": "majority", "metric": "ece", "measured": None, "worst_case": None}
    return row(**(fields | changes))


def test_rows_as_they_are_measured_are_taken() -> None:
    clustered = pb.ShareCount(events=2, clusters=4, n_effective=3.5)
    rows = [
        row(), mean(), row(metric="accuracy", worst_case=None), row(slice="ward", slice_value="A"),
        row(model="m2", measured=clustered, worst_case=clustered),
        row(regime="majority", n=0, n_unread=0, value=None, ci_low=None, ci_high=None, measured=pb.ShareCount(),
            worst_case=None),
        mean(metric="latency_mean_s", regime="greedy", value=3.0, ci_low=2.0, ci_high=4.0),
    ]  # fmt: skip
    assert checked_rows(rows) == rows


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (row(model=" "), "rows[1]: model = empty; expected a name"),
        (row(condition="a\x1b[2J"), "rows[1]: condition = U+001B"),
        (row(metric="harm"), 'rows[1]: metric = "harm"; expected the name of a metric'),
        (row(regime="samples"), 'rows[1]: regime = "samples"; expected one of greedy, majority'),
        (row(slice="ward"), 'rows[1]: slice = "ward"; expected slice and slice_value, or neither'),
        (row(value=math.nan), "rows[1]: value = nan; expected a rate from 0 to 1"),
        (row(ci_high=1.5), "rows[1]: ci_high = 1.5; expected a rate from 0 to 1"),
        (row(ci_low=0.6), "rows[1]: ci_low = 0.6; expected both ends of an interval, the lower first"),
        (row(ci_high=None), "rows[1]: ci_low = 0; expected both ends of an interval"),
        (mean(metric="latency_mean_s", regime="greedy", value=-1.0), "rows[1]: value = -1; expected seconds"),
        (row(n_unread=9), "rows[1]: n_unread = 9; expected at most the 8 questions"),
        (row(measured=None), "rows[1]: measured = missing; expected the count behind the value"),
        (row(measured=pb.ShareCount(events=9)), "rows[1]: measured.events = 9; expected at most the 8"),
        (row(value=0.0), "rows[1]: value = 0; expected measured.events of n, 2 of 8"),
        (row(worst_case=pb.ShareCount(events=1)), "rows[1]: worst_case.events = 1; expected at least measured.events"),
        (row(worst_case=None), "rows[1]: worst_case = missing; expected the count if each of the 1 unread"),
        (
            row(measured=pb.ShareCount(events=2, clusters=4), worst_case=pb.ShareCount(events=3, clusters=4)),
            "rows[1]: measured.n_effective = 0; expected a number above 0",
        ),
        (row(worst_case=pb.ShareCount(events=3, clusters=4, n_effective=4)), "rows[1]: worst_case.clusters = 4"),
        (mean(measured=pb.ShareCount(events=2)), "rows[1]: measured = a count; expected none, since ece is no share"),
        (row(model="first"), "rows[1]: metric = high_risk_error_rate; expected a row of its own, since rows[0] is"),
    ],
)
def test_rows_that_cannot_be_are_named(wrong: pb.MetricRow, expected: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        checked_rows([row(model="first"), wrong])
    assert expected in str(refused.value.defects[0])


def test_the_rows_of_a_request_are_bounded() -> None:
    with pytest.raises(LimitExceededError, match="20,001 rows are over the limit of 20,000"):
        checked_rows([row()] * (MAX_ROWS + 1))
