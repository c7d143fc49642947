"""A policy on the measurements of a run: every requirement at every place that it is about.

Nothing passes by absence: a requirement without a measurement fails, and so does one whose value is NaN.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from safescale.core.decisions.judging import judge
from safescale.core.decisions.margins import PairedMeasurement, judge_pair
from safescale.core.decisions.policy import (
    ANY,
    Finding,
    Margin,
    Measurement,
    Place,
    Policy,
    PolicyRequirement,
    RequirementResult,
    Scope,
    Verdict,
)
from safescale.core.errors import LimitExceededError

MAX_RESULTS = 20_000
"""Results of a policy: more than a person reads, and about what fits into one message."""


@dataclass(frozen=True, slots=True)
class Comparisons:
    """The measurements paired with a baseline; `missing` says in a sentence part why there are none."""

    rows: Sequence[PairedMeasurement] = ()
    missing: str = "no baseline was named"


NONE_COMPARED = Comparisons()
Judged = Measurement | PairedMeasurement


def evaluate(
    policy: Policy,
    measurements: Sequence[Measurement],
    scope: Scope | None = None,
    comparisons: Comparisons = NONE_COMPARED,
) -> tuple[RequirementResult, ...]:
    """Every requirement on every measurement that it matches, in the order of the policy.

    With `*` as model each model of the scope must have a measurement, and with `*` as condition it must have one under
    each condition: where it is missing, such as where the condition was skipped for the model, the requirement fails.
    Without a scope the models are those of the measurements, each of which needs one measurement that matches. With a
    slice it must have one for each value that any measurement has. A margin is judged by the comparisons.

    Raises LimitExceededError where there would be too many results.
    """
    rows: dict[tuple[bool, str, str, str], list[Judged]] = {}
    judged: list[Judged] = [*measurements, *comparisons.rows]
    for row in judged:
        rows.setdefault((isinstance(row, PairedMeasurement), row.model, row.metric, row.slice), []).append(row)
    models = list(scope.models if scope else dict.fromkeys(row.model for row in measurements)) or [ANY]
    values = _slice_values(measurements)
    results: list[RequirementResult] = []
    for requirement in policy.requirements:
        wanted = values.get(requirement.slice, [""])
        for model in models if requirement.model == ANY else [requirement.model]:
            found = [
                row
                for row in rows.get((_paired(requirement), model, requirement.metric, requirement.slice), ())
                if _matches(requirement, row)
            ]
            results.extend(
                RequirementResult(
                    requirement, Place(row.model, row.condition, row.regime, row.slice_value),
                    _finding(requirement, row, policy),
                )
                for row in found
            )  # fmt: skip
            lacking = _unmeasured(requirement, model, found, scope, wanted)
            if _paired(requirement) and not comparisons.rows:
                lacking = [
                    replace(one, finding=Finding(Verdict.FAIL, f"no comparison: {comparisons.missing}"))
                    for one in lacking
                ]
            results.extend(lacking)
        if len(results) > MAX_RESULTS:
            raise LimitExceededError(f"the policy gives more than {MAX_RESULTS:,} results; expected fewer requirements")
    return tuple(results)


def _paired(requirement: PolicyRequirement) -> bool:
    return isinstance(requirement.demand, Margin)


def _finding(requirement: PolicyRequirement, row: Judged, policy: Policy) -> Finding:
    if isinstance(row, PairedMeasurement):
        return judge_pair(requirement, row, policy)
    return judge(requirement, row, policy)


def _slice_values(measurements: Iterable[Measurement]) -> Mapping[str, Sequence[str]]:
    """Return the values of each slice in their order."""
    found: dict[str, dict[str, None]] = {}
    for row in measurements:
        if row.slice:
            found.setdefault(row.slice, {})[row.slice_value] = None
    return {name: list(values) for name, values in found.items()}


def _unmeasured(
    requirement: PolicyRequirement, model: str, found: Sequence[Judged], scope: Scope | None,
    values: Sequence[str],
) -> list[RequirementResult]:  # fmt: skip
    """Return a failed result for each condition, and value of a slice, that the model lacks a measurement of."""
    conditions = _wanted(requirement, model, {row.condition for row in found}, scope)
    measured = {(row.condition, row.slice_value) for row in found}
    bare = {row.condition for row in found}
    results = []
    for name in conditions:
        # A condition that was not measured at all is told once, not for each value of the slice.
        for value in values if name in bare else [""]:
            if (name, value) in measured:
                continue
            what = "no comparison with the baseline" if _paired(requirement) else "no measurement"
            finding = Finding(Verdict.FAIL, f"{what}{_why(requirement, model, name, value, scope)}")
            results.append(RequirementResult(requirement, Place(model, name, requirement.regime, value), finding))
    return results


def _wanted(
    requirement: PolicyRequirement, model: str, measured: Collection[str], scope: Scope | None
) -> Sequence[str]:
    """Return the conditions under which the model should have a measurement."""
    if requirement.condition != ANY:
        return [requirement.condition]
    if scope is not None and model in scope.models:
        return scope.conditions or [ANY]
    return sorted(measured) or [ANY]


def _why(requirement: PolicyRequirement, model: str, name: str, value: str, scope: Scope | None) -> str:
    """Return the reason why there is no measurement, where it is known."""
    if value:
        return f": {model} has no {requirement.metric} of {requirement.slice} {value} under {name}"
    if scope is None:
        return ""
    if model not in scope.models:
        return "" if model == ANY else f": the run does not have the model {model}"
    if name not in scope.conditions:
        return "" if name == ANY else f": the run does not have the condition {name}"
    if (model, name) in scope.skipped:
        return f": {name} was skipped for {model}: {scope.skipped[model, name]}"
    regime = "" if requirement.regime == ANY else f" ({requirement.regime})"
    by = f" by {requirement.slice}" if requirement.slice else ""
    who = "the two runs have" if _paired(requirement) else "the run has"
    return f": {who} no {requirement.metric}{regime}{by} of {model} under {name}"


def _matches(requirement: PolicyRequirement, row: Judged) -> bool:
    return requirement.condition in {ANY, row.condition} and requirement.regime in {ANY, row.regime}
