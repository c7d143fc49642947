"""What responses hold of series."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from safescale.gateway.api.openapi import examples

POINT: dict[str, Any] = {
    "run_id": examples.RUN_ID,
    "model": "",
    "model_revision": "sha256:0d1c2b3a",
    "condition": "",
    "regime": "",
    "metric": "",
    "kind": "drift",
    "n": 32,
    "worse": 3,
    "better": 1,
    "evidence": 0.7,
    "alarm": False,
    "limit": None,
    "created_at_s": 1777885200,
    "left_out": 0,
}
RUNS: dict[str, Any] = {
    "series": examples.SERIES,
    "run_count": 12,
    "completed_count": 11,
    "newest_run_id": examples.RUN_ID,
    "newest_created_at": "2026-05-04T09:00:00Z",
}


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class SeriesRuns(BaseModel):
    """A series in a list."""

    model_config = _example(RUNS)

    series: str
    run_count: int
    completed_count: int
    newest_run_id: str
    newest_created_at: str | None


class SeriesList(BaseModel):
    """All series."""

    model_config = _example({"items": [RUNS]})

    items: list[SeriesRuns]


class EvidencePoint(BaseModel):
    """The evidence up to a run, of a model, condition, regime and metric; of a whole kind where these are empty."""

    run_id: str
    model: str
    model_revision: str
    condition: str
    regime: str
    metric: str
    kind: str = Field(description="drift (the same questions against the reference run) or rate (fresh ones).")
    n: int = Field(description="Questions that count as new evidence in this run.")
    worse: int = Field(description="Of them, those that got worse; of a rate, those with the event.")
    better: int
    evidence: float = Field(description="An e-value: an alarm is raised at 1 / alpha.")
    alarm: bool = Field(description="Whether the evidence has reached that, in this run or before.")
    limit: float | None = Field(description="Limit of a rate.")
    created_at_s: int
    left_out: int = Field(description="Questions that do not count, since nobody could read them or they failed.")


class SeriesEvidence(BaseModel):
    """The evidence of a series."""

    model_config = _example(
        {"series": examples.SERIES, "points": [POINT], "alpha": 0.01, "reference_run_id": examples.RUN_ID, "notes": []}
    )

    series: str
    points: list[EvidencePoint] = Field(description="In the order of the runs, a whole kind before its parts.")
    alpha: float = Field(description="Chance at most that a series without a change ever raises an alarm.")
    reference_run_id: str
    notes: list[str] = Field(description="What a reader must know, such as runs that were left out and why.")
