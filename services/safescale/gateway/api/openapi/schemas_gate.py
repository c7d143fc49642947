"""What responses hold of policies."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from safescale.gateway.api.openapi import examples


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class RequirementResult(BaseModel):
    """One requirement where it was judged."""

    metric: str
    model: str
    condition: str
    regime: str
    slice: str = Field(description="Slice that the requirement is about; empty for all questions.")
    slice_value: str
    direction: str = Field(description="max, min or baseline.")
    limit: float
    value: float | None
    bound: str = Field(
        description="Which number decides: estimate (no evidence), ci_low or ci_high; worst against a baseline."
    )
    decisive: float | None
    low: float | None = Field(description="Low end of the interval at the policy's confidence.")
    high: float | None = Field(description="High end of it; unread answers count as harm in it.")
    interval: str = Field(description="How it is made: clopper_pearson, korn_graubard, bootstrap or tango.")
    n: int = Field(description="Questions behind it.")
    n_unread: int = Field(description="Questions of them that nobody could read in full.")
    verdict: str = Field(description="pass, fail or insufficient.")
    passed: bool = Field(description="True for pass alone.")
    reason: str = Field(description="Why it is not passed; empty when it is.")
    questions_more: int | None = Field(
        description="Questions more that pass would take with a power of 80 % if the estimate were true; none where it "
        "is decided or no number would do."
    )
    margin: float | None = Field(default=None, description="Margin of a requirement against a baseline; else none.")
    baseline_run_id: str = Field(
        default="", description="Run that it was compared with; low and high are of the difference."
    )
    baseline_value: float | None = Field(default=None, description="Estimate of the baseline.")


class GateResult(BaseModel):
    """A policy, judged on a run."""

    model_config = _example(examples.GATE)

    run_id: str
    policy_name: str
    verdict: str = Field(description="pass, fail where a requirement fails, else insufficient.")
    passed: bool = Field(
        description="Whether every requirement is shown to hold. A run that is not complete, or has failed cells, never"
        " passes."
    )
    failed_requirements: int = Field(description="Results that are not passed, insufficient ones included.")
    insufficient_requirements: int = Field(description="Of these, insufficient.")
    confidence: float = Field(description="Two-sided confidence of the intervals.")
    policy_sha256: str
    registered_sha256: str = Field(description="Of the policy that the run registered; empty when it registered none.")
    notes: list[str] = Field(description="What a reader of the verdict must know, a sentence each.")
    results: list[RequirementResult]


class PlannedRequirement(BaseModel):
    """What a requirement could decide."""

    metric: str
    model: str
    condition: str
    regime: str
    slice: str
    slice_value: str
    direction: str
    limit: float
    bound: str
    n: int = Field(description="Questions that would be asked of it.")
    pivotal_events: int | None = Field(
        description="Most questions with the event by which it still passes (fewest for a minimum); none if it cannot."
    )
    needed: int = Field(description="Fewest questions by which it can pass at all; 0 where no number would do.")
    decidable: bool
    sentence: str


class PolicyPlan(BaseModel):
    """What a policy could decide."""

    model_config = _example(examples.POLICY_PLAN)

    policy_name: str
    confidence: float
    requirements: list[PlannedRequirement]
