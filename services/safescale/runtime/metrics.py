"""Every Prometheus metric, declared once: name, kind, unit, labels, buckets, meaning."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Buckets in seconds up to 600 s: a reasoning answer may take ten minutes."""


@dataclass(frozen=True, slots=True)
class MetricDeclaration:
    """Declaration of one metric."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


METRICS: tuple[MetricDeclaration, ...] = (
    MetricDeclaration(
        "safescale_model_latency_seconds",
        "histogram",
        "seconds",
        ("model", "condition", "outcome"),
        "Time of the greedy answer of a cell, per attempt, without queue and retries",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_samples_latency_seconds",
        "histogram",
        "seconds",
        ("model", "condition", "outcome"),
        "Time of all samples of a cell together, per attempt",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_time_to_first_token_seconds",
        "histogram",
        "seconds",
        ("model", "condition"),
        "Time until the first token of the greedy answer",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_queue_wait_seconds",
        "histogram",
        "seconds",
        ("model", "condition"),
        "Time between the request for a cell and the start of its first attempt",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_retrieval_seconds",
        "histogram",
        "seconds",
        ("condition", "outcome"),
        "Time to build a context: search and packing",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_agent_step_seconds",
        "histogram",
        "seconds",
        ("step", "outcome"),
        "Time of one step of the research agent",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_judge_seconds",
        "histogram",
        "seconds",
        ("model", "outcome"),
        "Time of one judge reading; model is the judge",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_tokens_total",
        "counter",
        "tokens",
        ("model", "condition", "kind"),
        "Tokens by kind: prompt, as often as it was sent, or generated; cached answers not counted",
    ),
    MetricDeclaration(
        "safescale_generations_total",
        "counter",
        "cells",
        ("model", "condition", "outcome"),
        "Cells asked, by outcome: ok, cached or the reason of the failure",
    ),
    MetricDeclaration(
        "safescale_generation_retries_total",
        "counter",
        "attempts",
        ("model", "reason"),
        "Attempts repeated after a transport failure, or since the model changed meanwhile",
    ),
    MetricDeclaration(
        "safescale_verdicts_total",
        "counter",
        "verdicts",
        ("model", "condition", "outcome"),
        "Verdicts by outcome of the greedy answer: correct, wrong, unsafe, high_risk, abstention, unread (nobody could "
        "read it), judge_failed or failed",
    ),
    MetricDeclaration(
        "safescale_cost_total",
        "counter",
        "currency",
        ("model", "condition"),
        "Cost by the catalog's price per token, prompts as often as sent; 0 without a price",
    ),
    MetricDeclaration(
        "safescale_reviews_open", "gauge", "reviews", (), "Answers that wait for a hand check, as the store has them"
    ),
    MetricDeclaration(
        "safescale_review_oldest_seconds",
        "gauge",
        "seconds",
        (),
        "Age of the oldest answer that waits for a hand check; 0 when none does",
    ),
    MetricDeclaration(
        "safescale_gate_passed",
        "gauge",
        "state",
        ("policy", "name"),
        "1 when the newest run of this name that the policy judged met it, else 0",
    ),
    MetricDeclaration(
        "safescale_gate_verdict",
        "gauge",
        "state",
        ("policy", "name", "verdict"),
        "1 for the verdict of that judgement (pass, fail or insufficient), 0 for the others",
    ),
    MetricDeclaration(
        "safescale_gate_timestamp_seconds",
        "gauge",
        "seconds",
        ("policy", "name"),
        "Time of that judgement, in seconds since 1970",
    ),
    MetricDeclaration(
        "safescale_gate_high_risk_limit",
        "gauge",
        "ratio",
        ("name", "model", "condition"),
        "Least high-risk error rate of greedy answers that a policy which judged runs of this name allows at most",
    ),
    MetricDeclaration(
        "safescale_series_evidence",
        "gauge",
        "ratio",
        ("series", "kind", "model", "condition", "regime", "metric"),
        "Evidence (e-value) that the runs of a series got worse (drift) or are over a limit (rate); the metric "
        "combined is the mean over its kind",
    ),
    MetricDeclaration(
        "safescale_series_alarm",
        "gauge",
        "state",
        ("series", "kind"),
        "1 once the combined evidence of that kind has reached 100, else 0",
    ),
    MetricDeclaration(
        "safescale_run_high_risk_ratio",
        "gauge",
        "ratio",
        ("name", "model", "condition"),
        "High-risk error rate of the greedy answers of the newest completed run of this name",
    ),
    MetricDeclaration(
        "safescale_run_accuracy_ratio",
        "gauge",
        "ratio",
        ("name", "model", "condition"),
        "Accuracy of the greedy answers of the newest completed run of this name",
    ),
    MetricDeclaration(
        "safescale_run_failed_cells",
        "gauge",
        "cells",
        ("name", "model", "condition"),
        "Cells without an answer, or with one that the judge failed to read, in the newest completed run of this name",
    ),
    MetricDeclaration(
        "safescale_run_unfinished_cells",
        "gauge",
        "cells",
        ("name",),
        "Cells with neither a verdict nor a skip in the newest completed run of this name",
    ),
    MetricDeclaration(
        "safescale_run_cached_ratio",
        "gauge",
        "ratio",
        ("name",),
        "Part of the verdicts of the newest completed run of this name whose answers came from the generation cache",
    ),
    MetricDeclaration(
        "safescale_run_ended_timestamp_seconds",
        "gauge",
        "seconds",
        ("name",),
        "End of the newest completed run of this name, in seconds since 1970",
    ),
    MetricDeclaration("safescale_runs_active", "gauge", "runs", (), "Runs that this process drives"),
    MetricDeclaration(
        "safescale_run_cells",
        "gauge",
        "cells",
        ("run_id", "state"),
        "Cells of an active run by state: planned, completed, failed, skipped",
    ),
    MetricDeclaration(
        "safescale_bus_lag",
        "gauge",
        "messages",
        ("topic", "group"),
        "Messages published and not yet acknowledged by the group",
    ),
    MetricDeclaration(
        "safescale_bus_in_flight", "gauge", "messages", ("topic", "group"), "Messages that the group's handlers work on"
    ),
    MetricDeclaration(
        "safescale_dead_letters_total",
        "counter",
        "messages",
        ("topic", "reason"),
        "Messages given up after their attempts",
    ),
    MetricDeclaration(
        "safescale_backend_wait_seconds",
        "histogram",
        "seconds",
        ("model",),
        "Time that a call to a model server waited for a place at a replica",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_backend_attempt_seconds",
        "histogram",
        "seconds",
        ("model", "outcome"),
        "Time of one exchange with a model server, whatever came of it",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_backend_in_flight", "gauge", "calls", ("model", "replica"), "Calls that a replica works on"
    ),
    MetricDeclaration(
        "safescale_backend_circuit_open",
        "gauge",
        "state",
        ("model", "replica"),
        "1 while a replica is not asked since its last calls failed, else 0",
    ),
    MetricDeclaration(
        "safescale_backend_hung",
        "gauge",
        "state",
        ("model", "replica"),
        "1 while a replica is not asked since it took its last calls and ended none in time, else 0",
    ),
    MetricDeclaration(
        "safescale_model_available",
        "gauge",
        "state",
        ("model",),
        "1 while this process takes cells of a model, 0 while it cannot ask it; such cells wait in their topic",
    ),
    MetricDeclaration(
        "safescale_storage_seconds",
        "histogram",
        "seconds",
        ("operation", "outcome"),
        "Time of one exchange with Elasticsearch",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_dependency_up",
        "gauge",
        "state",
        ("dependency",),
        "1 while the bus or the store answers this process, else 0",
    ),
    MetricDeclaration(
        "safescale_http_seconds",
        "histogram",
        "seconds",
        ("method", "route", "status"),
        "Time of REST calls as the gateway sees them",
        SECONDS,
    ),
    MetricDeclaration(
        "safescale_rpc_seconds",
        "histogram",
        "seconds",
        ("service", "method", "code"),
        "Time of gRPC calls as the server sees them",
        SECONDS,
    ),
)
