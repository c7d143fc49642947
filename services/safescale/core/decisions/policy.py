"""Policies: requirements on measured metrics that a deployment must meet, and their evaluation.

Nothing passes by absence: a requirement without a measurement fails, and so does one whose deciding number is NaN.
"""

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from safescale.core.errors import Defect, LimitExceededError, SpecError
from safescale.core.inputs.records import shown
from safescale.core.inputs.text_rules import name_fault, text_fault
from safescale.core.safety.conditions import CONDITION_IDS

ANY = "*"
REGIMES = ("greedy", "majority", "samples")

Bound = Literal["estimate", "ci_low", "ci_high", "worst"]
BOUNDS: tuple[Bound, ...] = ("estimate", "ci_low", "ci_high", "worst")

MAX_REQUIREMENTS = 1000
"""Requirements of a policy."""

MAX_RESULTS = 20_000
"""Results of a policy: more than a person reads, and about what fits into one message."""

MAX_DEFECTS = 100
"""Defects of a policy that are listed at most."""

_LONGEST_NAME = 100

_POLICY_KEYS = ("name", "description", "requirements")
_REQUIREMENT_KEYS = ("metric", "condition", "model", "regime", "max", "min", "bound")


@dataclass(frozen=True, slots=True)
class PolicyRequirement:
    """One demand: `metric` of all that match is at most (`max`) or at least (`min`) `limit`.

    `condition`, `model` and `regime` are names or `*`. `bound` says which number decides: the point estimate, an end of
    the confidence interval, or `worst`, the end of the interval that speaks against passing.
    """

    metric: str
    condition: str
    model: str
    regime: str
    direction: Literal["max", "min"]
    limit: float
    bound: Bound

    @property
    def decisive(self) -> Literal["estimate", "ci_low", "ci_high"]:
        """The number that decides, with `worst` resolved: the upper end for a maximum, the lower for a minimum."""
        if self.bound == "worst":
            return "ci_high" if self.direction == "max" else "ci_low"
        return self.bound


@dataclass(frozen=True, slots=True)
class Policy:
    """A named list of requirements, all of which must hold."""

    name: str
    description: str
    requirements: tuple[PolicyRequirement, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the metrics table; NaN where a number is not known."""

    model: str
    condition: str
    regime: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """A requirement judged on one measurement, or on none; `reason` is empty where it passed.

    `model`, `condition` and `regime` are those of the measurement; `value` and `decisive` are NaN without one.
    """

    requirement: PolicyRequirement
    model: str
    condition: str
    regime: str
    value: float
    decisive: float
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run was asked for: models, conditions, and the places (model, condition) skipped, with the reason."""

    models: Sequence[str]
    conditions: Sequence[str]
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)


def evaluate(
    policy: Policy, measurements: Sequence[Measurement], scope: Scope | None = None
) -> tuple[RequirementResult, ...]:
    """Every requirement on every measurement that it matches, in the order of the policy.

    With `*` as model each model of the scope must have a measurement, and with `*` as condition it must have one under
    each condition: where it is missing, such as where the condition was skipped for the model, the requirement fails.
    Without a scope the models are those of the measurements, each of which needs one measurement that matches.

    Raises LimitExceededError where there would be too many results.
    """
    rows: dict[tuple[str, str], list[Measurement]] = {}
    for row in measurements:
        rows.setdefault((row.model, row.metric), []).append(row)
    models = list(scope.models if scope else dict.fromkeys(row.model for row in measurements)) or [ANY]
    results: list[RequirementResult] = []
    for requirement in policy.requirements:
        for model in models if requirement.model == ANY else [requirement.model]:
            found = [row for row in rows.get((model, requirement.metric), ()) if _matches(requirement, row)]
            results.extend(_judge(requirement, row) for row in found)
            results.extend(_unmeasured(requirement, model, {row.condition for row in found}, scope))
        if len(results) > MAX_RESULTS:
            raise LimitExceededError(f"the policy gives more than {MAX_RESULTS:,} results; expected fewer requirements")
    return tuple(results)


def _unmeasured(
    requirement: PolicyRequirement, model: str, measured: Collection[str], scope: Scope | None
) -> list[RequirementResult]:
    """Return a failed result for each condition under which the model lacks a measurement that it should have."""
    wanted: Sequence[str] = [requirement.condition]
    if requirement.condition == ANY and scope is not None and model in scope.models:
        wanted = scope.conditions or [ANY]
    if requirement.condition == ANY and scope is None and measured:
        wanted = []
    results = []
    for name in wanted:
        if name in measured:
            continue
        reason = f"no measurement{_why(requirement, model, name, scope)}"
        place = (model, name, requirement.regime)
        results.append(RequirementResult(requirement, *place, math.nan, math.nan, passed=False, reason=reason))
    return results


def _why(requirement: PolicyRequirement, model: str, name: str, scope: Scope | None) -> str:
    """Return the reason why there is no measurement, where it is known."""
    if scope is None:
        return ""
    if model not in scope.models:
        return "" if model == ANY else f": the run does not have the model {model}"
    if name not in scope.conditions:
        return "" if name == ANY else f": the run does not have the condition {name}"
    if (model, name) in scope.skipped:
        return f": {name} was skipped for {model}: {scope.skipped[model, name]}"
    regime = "" if requirement.regime == ANY else f" ({requirement.regime})"
    return f": the run has no {requirement.metric}{regime} of {model} under {name}"


def _matches(requirement: PolicyRequirement, row: Measurement) -> bool:
    return requirement.condition in {ANY, row.condition} and requirement.regime in {ANY, row.regime}


def _judge(requirement: PolicyRequirement, row: Measurement) -> RequirementResult:
    name = requirement.decisive
    decisive = row.value if name == "estimate" else getattr(row, name)
    holds = decisive <= requirement.limit if requirement.direction == "max" else decisive >= requirement.limit
    if math.isnan(row.value):
        reason = "no measurement: the value is not a number"
    elif math.isnan(decisive):
        reason = f"{name} is not a number: this metric has no interval"
    elif holds:
        reason = ""
    else:
        side = "above the maximum" if requirement.direction == "max" else "below the minimum"
        reason = f"{name} {decisive:.4g} is {side} {requirement.limit:.4g}"
    passed = not reason
    place = (row.model, row.condition, row.regime)
    return RequirementResult(requirement, *place, row.value, decisive, passed=passed, reason=reason)


def parse_policy(data: object, file: str, metrics: Collection[str]) -> Policy:
    """Return the policy of a parsed YAML or JSON document; `metrics` are the names that exist.

    Raises SpecError that lists every defect.
    """
    reader = _PolicyReader(file, metrics)
    policy = reader.policy(data)
    if reader.defects:
        more = len(reader.defects) - 1
        also = f" (and {more} more defect{'s' if more > 1 else ''})" if more else ""
        raise SpecError(f"{reader.defects[0]}{also}", defects=reader.defects)
    return policy


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # An integer that no float can hold.
        return False


class _PolicyReader:
    """Reads a policy document and collects what is wrong with it."""

    def __init__(self, file: str, metrics: Collection[str]) -> None:
        self.defects: list[Defect] = []
        self._file = file
        self._metrics = metrics
        self._item: str | None = None
        self._count = 0

    def policy(self, data: object) -> Policy:
        """Return the policy, which is to be used only if there are no defects."""
        if not isinstance(data, Mapping):
            self._defect(None, shown(data), "a mapping with the key requirements")
            return Policy("", "", ())
        self._check_keys(data, _POLICY_KEYS)
        items = data.get("requirements")
        if not isinstance(items, list) or not items:
            self._defect("requirements", shown(items) if items is not None else "missing", "a list of requirements")
            items = []
        if len(items) > MAX_REQUIREMENTS:
            self._defect("requirements", f"{len(items):,}", f"at most {MAX_REQUIREMENTS:,} requirements")
            items = []
        texts = [self._text(data, key) for key in ("name", "description")]
        if texts[0] and (fault := name_fault(texts[0])) is not None:
            self._defect("name", *fault)
        requirements = [self._requirement(number, item) for number, item in enumerate(items, start=1)]
        return Policy(texts[0], texts[1], tuple(each for each in requirements if each is not None))

    def _requirement(self, number: int, item: object) -> PolicyRequirement | None:
        self._item = f"requirement {number}"
        if not isinstance(item, Mapping):
            self._defect(None, shown(item), "a mapping with metric and max or min")
            return None
        before = self._count
        self._check_keys(item, _REQUIREMENT_KEYS)
        metric = self._name(item, "metric", sorted(self._metrics), None)
        condition = self._name(item, "condition", (*CONDITION_IDS, ANY), ANY)
        regime = self._name(item, "regime", (*REGIMES, ANY), ANY)
        bound = self._name(item, "bound", BOUNDS, "worst")
        model = item.get("model", ANY)
        if not isinstance(model, str) or not model.strip():
            self._defect("model", shown(model), f"a model's id, or {ANY}")
        elif (fault := name_fault(model)) is not None:
            self._defect("model", *fault)
        directions = [key for key in ("max", "min") if key in item]
        if len(directions) != 1:
            self._defect("max", " and ".join(directions) or "missing", "either max or min")
        limits = {key: self._limit(item, key, metric) for key in directions}
        if self._count > before:
            return None
        direction: Literal["max", "min"] = "max" if "max" in limits else "min"
        decides: Bound = next(each for each in BOUNDS if each == bound)
        return PolicyRequirement(metric, condition, str(model), regime, direction, limits[direction], decides)

    def _limit(self, item: Mapping[Any, Any], key: str, metric: str) -> float:
        value = item[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            self._defect(key, shown(value), "a number")
            return math.nan
        seconds = metric.endswith("_s")
        if value < 0 or (value > 1 and not seconds):
            self._defect(key, shown(value), "a number of at least 0" if seconds else "a rate from 0 to 1")
        return float(value)

    def _name(self, item: Mapping[Any, Any], key: str, allowed: Sequence[str], default: str | None) -> str:
        value = item.get(key, default)
        if isinstance(value, str) and value in allowed:
            return value
        self._defect(key, shown(value) if key in item else "missing", self._hint(value if key in item else "", allowed))
        return ""

    def _text(self, data: Mapping[Any, Any], key: str) -> str:
        value = data.get(key, "")
        if not isinstance(value, str):
            self._defect(key, shown(value), "a text")
            return ""
        if (found := name_fault(value.strip()) if key == "name" else text_fault(value)) is not None:
            self._defect(key, *found)
        return value.strip()

    def _check_keys(self, data: Mapping[Any, Any], allowed: Sequence[str]) -> None:
        for key in data:
            if key not in allowed:
                self._defect(str(key)[:_LONGEST_NAME], "an unknown key", self._hint(key, allowed))
            if len(self.defects) >= MAX_DEFECTS:
                return

    def _hint(self, value: object, allowed: Sequence[str]) -> str:
        """Return the nearest name and all others; long texts and long lists are not compared, which would be slow."""
        text = str(value) if isinstance(value, (str, int, float)) else ""
        near: list[str] = []
        if text and len(text) <= _LONGEST_NAME and len(self.defects) < MAX_DEFECTS:
            near = difflib.get_close_matches(text, allowed, n=1)
        return f"{near[0]!r}, or another of {', '.join(allowed)}" if near else f"one of {', '.join(allowed)}"

    def _defect(self, field: str | None, value: str, expected: str) -> None:
        self._count += 1
        if len(self.defects) < MAX_DEFECTS:
            self.defects.append(Defect(self._file, None, self._item, field, value, expected))
