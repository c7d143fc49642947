"""Bounds of labels: no caller makes endless series."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.app.metric_labels import DOMAIN_LABELS
from safescale.core.safety.conditions import CONDITION_IDS
from safescale.runtime.labels import LABELS, LONGEST, OTHER, UNKNOWN
from safescale.runtime.metrics import METRICS, MetricDeclaration
from safescale.runtime.telemetry import Telemetry

LABELLED = [metric for metric in METRICS if metric.labels]


def use(telemetry: Telemetry, metric: MetricDeclaration, labels: dict[str, str]) -> None:
    if metric.kind == "counter":
        telemetry.count(metric.name, 1, labels)
    elif metric.kind == "gauge":
        telemetry.gauge(metric.name, 1, labels)
    else:
        telemetry.observe(metric.name, 1, labels)


def values(telemetry: Telemetry, metric: MetricDeclaration, label: str) -> set[str]:
    return {
        sample.labels[label]
        for family in telemetry.registry.collect()
        if family.name in (metric.name, metric.name.removesuffix("_total"))
        for sample in family.samples
    }


def test_every_label_of_every_metric_has_a_source_and_a_bound_and_nothing_else_has() -> None:
    assert {label for metric in METRICS for label in metric.labels} == set(LABELS)
    assert set(DOMAIN_LABELS) == set(LABELS)
    for name, label in DOMAIN_LABELS.items():
        assert label.source, name
        assert 0 < label.most <= 1000, name


@pytest.mark.parametrize("metric", LABELLED, ids=lambda metric: metric.name)
def test_no_label_of_any_metric_shows_more_values_than_its_bound(metric: MetricDeclaration) -> None:
    telemetry = Telemetry()
    for label in metric.labels:
        most = LABELS[label].most
        for number in range(most + 50):
            use(telemetry, metric, {name: f"x{number}" if name == label else "y" for name in metric.labels})
        shown = values(telemetry, metric, label)
        assert OTHER in shown
        assert len(shown) <= most + 1
    assert len(telemetry._series) <= sum(LABELS[label].most + 2 for label in metric.labels)


def test_the_first_values_stay_what_they_are() -> None:
    telemetry = Telemetry()
    for number in range(LABELS["reason"].most + 10):
        telemetry.count("safescale_dead_letters_total", 1, {"topic": "t", "reason": f"R_{number}"})
        telemetry.count("safescale_dead_letters_total", 1, {"topic": "t", "reason": "R_0"})
    get = telemetry.registry.get_sample_value
    first = get("safescale_dead_letters_total", {"topic": "t", "reason": "R_0"})
    assert (first, get("safescale_dead_letters_total", {"topic": "t", "reason": OTHER})) == (111, 10)


def test_words_of_a_table_are_all_that_there_are() -> None:
    telemetry = Telemetry(labels=DOMAIN_LABELS)
    for condition in (*CONDITION_IDS, "rpc", "my_own", "zero_shot "):
        telemetry.count("safescale_cost_total", 1, {"model": "m", "condition": condition})
    counted = values(telemetry, next(each for each in METRICS if each.name == "safescale_cost_total"), "condition")
    assert counted == {*CONDITION_IDS, "rpc", OTHER}


def test_models_that_a_process_does_not_know_are_unknown_once_it_knows_some() -> None:
    telemetry = Telemetry()
    metric = next(each for each in METRICS if each.name == "safescale_backend_wait_seconds")
    telemetry.know("model", ["a"])
    for model in ("a", "b", "invented"):
        telemetry.observe(metric.name, 1, {"model": model})
    telemetry.know("model", ["b"])
    telemetry.observe(metric.name, 1, {"model": "b"})
    assert values(telemetry, metric, "model") == {"a", "b", UNKNOWN}


def test_a_series_that_is_dropped_makes_room_for_another() -> None:
    telemetry = Telemetry()
    metric = next(each for each in METRICS if each.name == "safescale_run_cells")
    for number in range(3 * LABELS["run_id"].most):
        labels = {"run_id": f"run-{number}", "state": "planned"}
        telemetry.gauge(metric.name, 1, labels)
        assert values(telemetry, metric, "run_id") == {f"run-{number}"}
        telemetry.forget(metric.name, {"run_id": f"run-{number}"})
    assert values(telemetry, metric, "run_id") == set()


def test_names_of_people_may_have_spaces_and_no_line_ends() -> None:
    telemetry = Telemetry()
    metric = next(each for each in METRICS if each.name == "safescale_run_ended_timestamp_seconds")
    for name in ("Night run, ward 3", "a\nb", "x" * (LONGEST + 1)):
        telemetry.gauge(metric.name, 1, {"name": name})
    assert values(telemetry, metric, "name") == {"Night run, ward 3", OTHER}


@pytest.mark.parametrize(
    "url", ["http://[2001:db8::7]:8080", "http://[fe80::1%25eth0]:8080/v1", "https://models.example/~ward/a+b@c,d=1"]
)
def test_the_address_of_a_replica_stays_what_it_is(url: str) -> None:
    telemetry = Telemetry()
    metric = next(each for each in METRICS if each.name == "safescale_backend_in_flight")
    telemetry.gauge(metric.name, 1, {"model": "m", "replica": url})
    assert values(telemetry, metric, "replica") == {url}


@given(st.text(max_size=300))
def test_words_of_programs_are_words(value: str) -> None:
    telemetry = Telemetry()
    telemetry.count("safescale_generation_retries_total", 1, {"model": "m", "reason": value})
    metric = next(each for each in METRICS if each.name == "safescale_generation_retries_total")
    (shown,) = values(telemetry, metric, "reason")
    assert shown in (value, OTHER)
    assert len(shown) <= LONGEST
    assert " " not in shown
    assert shown.isprintable()
