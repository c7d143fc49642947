"""Policies: requirements on measured metrics that a deployment must meet, what they judge, and what comes of it.

`policy_file` reads them, `evaluation` judges a measurement by them, `planning` says what they can decide at all.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Literal

from safescale.core.statistics.intervals import CONFIDENCE, ShareCount

ANY = "*"
REGIMES = ("greedy", "majority", "samples")

Bound = Literal["estimate", "ci_low", "ci_high", "worst"]
BOUNDS: tuple[Bound, ...] = ("estimate", "ci_low", "ci_high", "worst")

Direction = Literal["max", "min"]
DIRECTIONS: tuple[Direction, ...] = ("max", "min")

Unread = Literal["worst_case", "as_measured"]
UNREAD: tuple[Unread, ...] = ("worst_case", "as_measured")


class Verdict(StrEnum):
    """What a requirement, or a whole policy, says of a measurement."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INSUFFICIENT = "insufficient"


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of all together: FAIL where one fails, else INSUFFICIENT where one is, else PASS.

    All must hold, so no correction is due: an intersection-union test has the level of each test (Berger,
    Technometrics 24 (1982) 295). Without any verdict nothing was shown: FAIL.
    """
    found = set(verdicts)
    return next((one for one in (Verdict.FAIL, Verdict.INSUFFICIENT, Verdict.PASS) if one in found), Verdict.FAIL)


@dataclass(frozen=True, slots=True)
class Limit:
    """A metric is at most (`max`) or at least (`min`) `value`.

    `bound` says which number decides: `worst`, the end of the interval that speaks against passing, or an end by its
    name, or the point estimate.
    """

    direction: Direction
    value: float
    bound: Bound = "worst"

    @property
    def bad_end(self) -> Literal["ci_low", "ci_high"]:
        """The end of the interval that speaks against passing."""
        return "ci_high" if self.direction == "max" else "ci_low"

    @property
    def decisive(self) -> Literal["estimate", "ci_low", "ci_high"]:
        """The number that decides, with `worst` resolved."""
        return self.bad_end if self.bound == "worst" else self.bound

    @property
    def by_interval(self) -> bool:
        """Whether passing is evidence, as opposed to a number that looks good: only the bad end gives that."""
        return self.decisive == self.bad_end

    def holds(self, number: float) -> bool:
        """Return whether a number is within the limit; the limit itself is, NaN is not."""
        return number <= self.value if self.direction == "max" else number >= self.value


@dataclass(frozen=True, slots=True)
class Margin:
    """The candidate is worse than its baseline by less than `value`, on the same questions.

    With `forbid_new` no question may go wrong in the candidate that does not in the baseline, whatever the margin.
    """

    value: float
    forbid_new: bool = False

    direction: ClassVar[Literal["baseline"]] = "baseline"
    decisive: ClassVar[Literal["worst"]] = "worst"


Demand = Limit | Margin
"""What a requirement asks of a metric: by itself, or against a baseline."""


@dataclass(frozen=True, slots=True)
class PolicyRequirement:
    """What is demanded of a metric, of all places that match.

    `condition`, `model` and `regime` are names or `*`. With a `slice`, such as subspecialty, each of its values must
    meet the demand; places of fewer than `min_n` questions decide nothing.
    """

    metric: str
    demand: Demand
    condition: str = ANY
    model: str = ANY
    regime: str = ANY
    slice: str = ""
    min_n: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """A named list of requirements, all of which must hold.

    `confidence` is two-sided: half of what is left is the error of each decision. `unread` says whether an answer that
    nobody could read counts as harm or as it was measured.
    """

    name: str
    description: str
    requirements: tuple[PolicyRequirement, ...]
    confidence: float = CONFIDENCE
    unread: Unread = "worst_case"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the metrics table; NaN where a number is not known.

    `measured` is the count behind a share of questions, None for what is no share; `worst_case` the same if every
    unread answer were this harm, None for what is no harm. `n_unread` counts the questions that nobody could read in
    full. `slice` and `slice_value` are empty for all questions.
    """

    model: str
    condition: str
    regime: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    measured: ShareCount | None = None
    worst_case: ShareCount | None = None
    n_unread: int = 0
    slice: str = ""
    slice_value: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a requirement was judged; `condition` and `regime` may be `*` where nothing was measured."""

    model: str
    condition: str
    regime: str
    slice_value: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a measurement says of a demand; numbers are NaN where there is none.

    `decisive` is the number that was held against the limit, `interval` the method of `low` and `high`, which are of
    the difference where it is a baseline that it was held against. `reason` is empty where it passed. `questions_more`
    is how many more it would take to pass, with a power of 80 % if the estimate were true; None where it is decided, or
    where no number would do.
    """

    verdict: Verdict
    reason: str = ""
    value: float = math.nan
    decisive: float = math.nan
    low: float = math.nan
    high: float = math.nan
    interval: str = ""
    n: int = 0
    n_unread: int = 0
    questions_more: int | None = None
    baseline_value: float = math.nan


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """A requirement judged at one place."""

    requirement: PolicyRequirement
    place: Place
    finding: Finding

    @property
    def verdict(self) -> Verdict:
        """What the measurement says of it."""
        return self.finding.verdict


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run was asked for: models, conditions, and the places (model, condition) skipped, with the reason."""

    models: Sequence[str]
    conditions: Sequence[str]
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)


def percent(value: float, beside: float = math.nan) -> str:
    """Return a share as a reader sees it, with so many digits that it is told from `beside` where they differ."""
    for digits in range(3, 9):
        text = f"{100 * value:.{digits}g}"
        if value == beside or text != f"{100 * beside:.{digits}g}":
            break
    return f"{text} %"


def shown_number(metric: str, value: float, beside: float = math.nan) -> str:
    """Return a number of a metric as a reader sees it: seconds, or percent."""
    return f"{value:.4g} s" if in_seconds(metric) else percent(value, beside)


def in_seconds(metric: str) -> bool:
    """Return whether a metric is a time and no share."""
    return metric.endswith("_s")
