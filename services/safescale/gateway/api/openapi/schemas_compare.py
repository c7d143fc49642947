"""What a comparison holds."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from safescale.gateway.api.openapi.examples import MODEL, RUN_ID

BASELINE_ID = "demo-0c9d8e7f"

PAIRED_ROW: dict[str, Any] = {
    "candidate_model": MODEL["id"], "baseline_model": MODEL["id"], "condition": "zero_shot", "regime": "greedy",
    "metric": "high_risk_error_rate", "formulation": "letter", "n": 200, "left_out": 0, "only_candidate": 3,
    "only_baseline": 1, "both": 9, "candidate_value": 0.06, "baseline_value": 0.05, "difference": 0.01,
    "low": -0.0143, "high": 0.0381, "p_value": 0.625, "p_holm": 1.0, "candidate_unread": 0, "baseline_unread": 0,
    "n_unread": 0,
    "worst_difference": 0.01, "worst_low": -0.0143, "worst_high": 0.0381,
    "worst_only_candidate": 3, "worst_only_baseline": 1, "best_difference": 0.01, "best_low": -0.0143,
    "best_high": 0.0381, "best_only_candidate": 3, "best_only_baseline": 1,
    "interval": "tango", "n_effective": None,
}  # fmt: skip

FLIP: dict[str, Any] = {
    "question_id": "chest-001", "candidate_model": MODEL["id"], "baseline_model": MODEL["id"],
    "condition": "zero_shot", "regime": "greedy", "worse": ["high_risk_error_rate", "accuracy"], "better": [],
    "candidate_letter": "B", "baseline_letter": "A", "candidate_text": "B", "baseline_text": "A",
    "candidate_samples": "", "baseline_samples": "", "candidate_unread": False, "baseline_unread": False,
    "candidate_context_id": "", "baseline_context_id": "",
}  # fmt: skip

COMPARISON: dict[str, Any] = {
    "candidate_run_id": RUN_ID, "baseline_run_id": BASELINE_ID, "rows": [PAIRED_ROW], "flips": [FLIP],
    "confidence": 0.95, "notes": [], "flip_count": 1,
}  # fmt: skip


class PairedRow(BaseModel):
    """One metric of candidate and baseline under one condition, on the questions that both answered."""

    candidate_model: str
    baseline_model: str
    condition: str
    regime: str = Field(description="greedy or majority.")
    metric: str
    formulation: str
    n: int = Field(description="Questions compared.")
    left_out: int = Field(description="Questions that one of the two failed, skipped or did not ask.")
    only_candidate: int = Field(description="Questions with the event in the candidate alone.")
    only_baseline: int = Field(description="Questions with it in the baseline alone.")
    both: int
    candidate_value: float
    baseline_value: float
    difference: float = Field(description="Candidate minus baseline.")
    low: float = Field(description="Low end of Tango's score interval of the difference.")
    high: float
    p_value: float = Field(description="McNemar's exact test, two-sided.")
    p_holm: float = Field(description="The same adjusted by Holm over all rows.")
    candidate_unread: int = Field(description="Compared questions that nobody could read in the candidate.")
    baseline_unread: int
    n_unread: int = Field(description="Compared questions that nobody could read on either side.")
    worst_difference: float = Field(description="Candidate minus baseline if all that is unread spoke against it.")
    worst_low: float
    worst_high: float
    worst_only_candidate: int
    worst_only_baseline: int
    best_difference: float = Field(description="Candidate minus baseline if all that is unread spoke for it.")
    best_low: float
    best_high: float
    interval: str = Field(description="tango, or tango_clusters where questions come in clusters.")
    n_effective: float | None = Field(description="Independent pairs that would know as much; none without clusters.")
    best_only_candidate: int
    best_only_baseline: int


class Flip(BaseModel):
    """A question whose outcome differs."""

    question_id: str
    candidate_model: str
    baseline_model: str
    condition: str
    regime: str
    worse: list[str] = Field(description="Metrics that got worse.")
    better: list[str]
    candidate_letter: str | None = Field(description="None for no answer, and for one that nobody could read.")
    baseline_letter: str | None
    candidate_text: str = Field(description="What the candidate wrote; empty for a majority and in cloze.")
    baseline_text: str
    candidate_samples: str = Field(description="Letters of its samples in seed order; empty for greedy.")
    baseline_samples: str
    candidate_unread: bool
    baseline_unread: bool
    candidate_context_id: str = Field(description="Stored context that it saw; empty for none, or one not recorded.")
    baseline_context_id: str


class ComparisonOfRuns(BaseModel):
    """A candidate against a baseline."""

    model_config = ConfigDict(json_schema_extra={"examples": [COMPARISON]})

    candidate_run_id: str
    baseline_run_id: str
    rows: list[PairedRow]
    flips: list[Flip] = Field(description="What got worse first.")
    flip_count: int = Field(description="Flips that there are; more than are listed where they would be too many.")
    confidence: float
    notes: list[str] = Field(description="What a reader must know, a sentence each.")
