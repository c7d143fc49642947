"""What responses hold of results: verdicts, metrics, policies, reviews."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.schemas import Failure


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class Cell(BaseModel):
    """The unit of work."""

    run_id: str
    model: str
    condition: str
    question_id: str


class Judge(BaseModel):
    """What the judge said of an answer."""

    clear_selection: str
    reasoning: str
    confirmed_answer: str | None
    failure: str = Field(description="Why it could not be asked or its reply not be used, or which guard overruled it.")


class Reading(BaseModel):
    """An answer that was read."""

    letter: str | None = Field(description="Letter that counts; none for an abstention.")
    parsed_letter: str | None
    judge: Judge | None
    review_reason: str
    text: str = Field(description="What the model wrote; empty in the cloze formulation.")
    seed: int | None
    read_by: str = Field(description="parser, judge, person or scores; empty when nobody could read it.")
    finish_reason: str = Field(description="Why the text ended, as its server said, such as stop or length.")


class Outcome(BaseModel):
    """What a letter means."""

    correct: bool
    high_risk_error: bool
    unsafe_answer: bool
    contradiction: bool
    abstention: bool
    unlabelled: bool = Field(description="Wrong, and without safety labels: the three flags say nothing.")


class Usage(BaseModel):
    """Tokens of a cell, and what those that were asked anew cost, in the currency of the catalog."""

    prompt_tokens: int = Field(description="Of the prompt, counted once.")
    prompt_tokens_sent: int = Field(
        description="Of the prompt as often as it was sent; 0 in records of version 0.1.0, which do not tell it."
    )
    generated_tokens: int
    cost: float | None = Field(
        description="With the prompt as often as it was sent, as most servers bill it; none without a price."
    )
    cost_prompt_once: float | None = Field(description="With the prompt once, as a server that keeps prompts may bill.")


class Timings(BaseModel):
    """Durations of a cell in seconds."""

    queue_wait_s: float
    greedy_s: float | None
    time_to_first_token_s: float | None
    samples_s: float | None


class Verdict(BaseModel):
    """A scored cell."""

    model_config = _example(examples.VERDICT)

    cell: Cell
    attempt: int
    formulation: str
    reading: str = Field(
        description="Rules by which its answers were read: strict or explicit; empty for scores, and for strict where "
        "the run did not state it."
    )
    greedy: Reading | None
    samples: list[Reading]
    greedy_outcome: Outcome | None
    majority_letter: str | None
    majority_outcome: Outcome | None
    option_scores: dict[str, float]
    usage: Usage | None
    timings: Timings | None
    failure: Failure | None = Field(description="Why there are no answers.")
    cached: bool
    model_revision: str
    greedy_asked: bool
    samples_asked: int
    judge_s: float
    context_id: str = Field(
        default="",
        description="Stored context that was put before the question; empty for none, and for a text of the question.",
    )


class VerdictPage(BaseModel):
    """Verdicts, ordered by their key. A page by outcome may hold fewer than asked for and not be the last."""

    model_config = _example({"items": [examples.VERDICT], "next_cursor": None})

    items: list[Verdict]
    next_cursor: str | None = Field(description="Cursor of the next page; none on the last.")


class ShareCount(BaseModel):
    """The count behind a share of questions: what an exact interval is made of. The questions are `n` of the metric."""

    model_config = _example(examples.SHARE)

    events: int = Field(description="Questions that count.")
    clusters: int = Field(description="Clusters that the questions belong to; 0 where there are none.")
    n_effective: float | None = Field(description="Independent questions that would know as much.")
    clusters_effective: float | None = Field(description="Clusters of one size that would tell as much.")
    freedom: float | None = Field(description="Degrees of freedom of the variance between clusters.")


class Metric(BaseModel):
    """One metric of one model, condition and regime. Rates are in [0, 1], latencies in seconds."""

    model_config = _example(examples.METRIC)

    model: str
    condition: str
    regime: str = Field(description="greedy, majority or samples.")
    metric: str
    value: float | None = Field(description="Point estimate; none where it is not defined.")
    boot_mean: float | None
    boot_sd: float | None
    ci_low: float | None = Field(description="2.5th percentile of the bootstrap.")
    ci_high: float | None = Field(description="97.5th percentile.")
    n: int = Field(description="Questions attempted: the denominator.")
    n_null: int = Field(description="Of these, without a letter.")
    n_unread: int = Field(description="Of these, not read in full by anybody: harm can hide in them.")
    interval: str = Field(description="Interval to be shown: clopper_pearson, korn_graubard (clusters) or bootstrap.")
    exact_low: float | None = Field(description="Low end of the exact 95 % interval of a share; none for what is none.")
    exact_high: float | None = Field(description="High end of it.")
    measured: ShareCount | None = Field(description="The count behind a share of questions; none for what is none.")
    worst_case: ShareCount | None = Field(description="The same if every unread answer were such an event.")
    worst_high: float | None = Field(description="High end of the exact 95 % interval of the worst case.")
    slice: str = Field(description="Slice that the row is about; empty for all questions.")
    slice_value: str = Field(description="Value of the slice.")
    corrected_value: float | None = Field(description="Corrected by a complete audit of the reading; none without one.")
    corrected_low: float | None = Field(description="Low end of its 95 % interval.")
    corrected_high: float | None = Field(description="High end of it.")


class Readings(BaseModel):
    """Who read the answers of a run, greedy ones and samples together."""

    parser: int
    judge: int = Field(description="Abstentions that it stated included.")
    person: int
    scores: int = Field(description="Drawn from option scores (cloze).")
    unread: int = Field(description="Nobody could read them: they are no abstentions, and harm can hide in them.")
    judge_failed: int = Field(description="Of the unread: the judge failed.")
    cut_by_length: int = Field(description="Of the unread: the text was cut before its end.")


class Metrics(BaseModel):
    """Metrics of a run."""

    model_config = _example({"items": [examples.METRIC], "slice_items": [], **examples.METRIC_COUNTS})

    items: list[Metric]
    slice_items: list[Metric] = Field(description="Rows of the slices that were asked for.")
    verdict_count: int = Field(description="Verdicts that were counted.")
    failed_count: int = Field(description="Of these, failures.")
    cost: float | None = Field(description="Of these verdicts; none where no model has a price.")
    planned_count: int = Field(description="Cells that the run has, skipped ones included.")
    skipped_count: int = Field(description="Of these, skipped.")
    cached_count: int = Field(description="Verdicts whose answers came from the generation cache.")
    complete: bool = Field(description="Whether the run has ended and verdicts and skips are all its cells.")
    missing: list[str] = Field(description="What keeps it from being complete, a sentence each.")
    warnings: dict[str, int] = Field(description="Verdicts by what was odd about their answers.")
    readings: Readings = Field(description="Who read the answers.")
    reading: str = Field(description="Rules by which answers that are letters were read: strict or explicit.")


class Review(BaseModel):
    """An answer that a person should look at."""

    model_config = _example(examples.REVIEW)

    review_id: str
    cell: Cell | None
    attempt: int
    sample_index: int | None = Field(description="From 0; none for the greedy answer.")
    reason: str = Field(description="PARSER_JUDGE_DISAGREE, NO_ANSWER, JUDGE_FAILED, CUT_BY_LENGTH or AUDIT.")
    text: str
    parsed_letter: str | None
    judge_letter: str | None
    resolved: bool
    resolved_letter: str | None
    reviewer: str
    note: str


class ReadingAudit(BaseModel):
    """A random audit of the reading."""

    model_config = _example(
        {"run_id": examples.RUN_ID, "sample": 50, "seed": 0, "settled": 12, "complete": False, "disagreements": 0}
    )

    run_id: str
    sample: int = Field(description="Answers drawn.")
    seed: int
    settled: int
    complete: bool = Field(description="Whether all are settled: then the metrics have corrected values.")
    disagreements: int = Field(description="Answers that persons read otherwise; 0 until the audit is complete.")


class ReviewPage(BaseModel):
    """Reviews, ordered by id."""

    model_config = _example({"items": [examples.REVIEW], "next_cursor": None})

    items: list[Review]
    next_cursor: str | None = Field(description="Cursor of the next page; none on the last.")


class Health(BaseModel):
    """Whether the process lives."""

    model_config = _example({"status": "ok", "version": "0.2.0"})

    status: str
    version: str


class Ready(BaseModel):
    """Whether the services behind answer."""

    model_config = _example(examples.READY)

    ready: bool
    services: dict[str, str] = Field(description="State of each: serving, not_serving or unreachable.")
