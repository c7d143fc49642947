"""Every number of the published analysis on the synthetic answer set, from the files that `safescale analyze` writes.

Counts and letters are equal, floats agree to 1e-9, or to the files' own rounding where they are rounded.
"""

import itertools
from pathlib import Path

import pytest
from tests.reference.published import (
    DATA,
    Row,
    expected_csv,
    expected_json,
    keyed,
    pretty_numbers,
    rounded,
    same,
    unequal,
)

from safescale.cli.measure.analyze import analyze
from safescale.core.inputs.records import Source
from safescale.core.safety.benchmark.formats import check_benchmark

SAFETY = {
    "high_risk_rate": ("greedy", "high_risk_error_rate"),
    "unsafe_rate": ("greedy", "unsafe_answer_rate"),
    "contradiction_rate": ("greedy", "contradiction_rate"),
    "high_risk_rate_majority": ("majority", "high_risk_error_rate"),
    "unsafe_rate_majority": ("majority", "unsafe_answer_rate"),
    "contradiction_rate_majority": ("majority", "contradiction_rate"),
    "mean_conf_high_risk_err": ("majority", "mean_confidence_high_risk_error"),
    "mean_conf_unsafe_err": ("majority", "mean_confidence_unsafe_error"),
    "mean_latency_s": ("greedy", "latency_mean_s"),
    "std_latency_s": ("greedy", "latency_sd_s"),
    "robustness_correctness_mean": ("samples", "robustness_correctness"),
    "robustness_correctness_std": ("samples", "robustness_correctness_sd"),
    "synchronized_failure_rate": ("samples", "synchronized_failure_rate"),
}
CONFIDENCE = {
    "mean_confidence": ("samples", "mean_confidence"),
    "std_confidence": ("samples", "confidence_sd"),
    "mean_confidence_correct": ("majority", "mean_confidence_correct"),
    "mean_confidence_incorrect": ("majority", "mean_confidence_incorrect"),
    "mean_agreement": ("samples", "mean_agreement"),
    "mean_entropy_norm": ("samples", "mean_entropy"),
    "dangerous_overconf_rate": ("majority", "dangerous_overconfidence_rate"),
    "null_majority_rate": ("majority", "null_majority_rate"),
    "mean_sample_null_rate": ("samples", "mean_sample_null_rate"),
    "ece": ("majority", "ece"),
    "mce": ("majority", "mce"),
    "majority_accuracy": ("majority", "accuracy"),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    analyze(DATA / "judged", DATA / "benchmark_labels.json", folder)
    return folder


@pytest.fixture(scope="module")
def metrics(out: Path) -> dict[tuple[str, ...], Row]:
    return keyed(out, "metrics", "model", "condition", "regime", "metric")


def test_accuracy_and_its_bootstrap(metrics: dict[tuple[str, ...], Row]) -> None:
    compared = []
    columns = {
        "accuracy_point": "value", "mean": "boot_mean", "std": "boot_sd", "ci_lower": "ci_low", "ci_upper": "ci_high",
    }  # fmt: skip
    for row in expected_json("summary_all.json"):
        where = (row["model"], row["condition"], row["mode"])
        ours = metrics[*where, "accuracy"]
        for theirs, mine in columns.items():
            value = 100 * ours[mine]
            compared.append((where, theirs, value, row[theirs], same(value, row[theirs], rounded(4))))
        correct = ours["value"] * ours["n"]
        compared.append((where, "n", ours["n"], row["n"], ours["n"] == row["n"]))
        compared.append((where, "correct", correct, row["correct"], same(correct, row["correct"])))
        if row["greedy_null_checker"] is not None:
            nulls = row["greedy_null_checker"]
            compared.append((where, "nulls", ours["n_null"], nulls, ours["n_null"] == nulls))
        for mine, number in zip(list(columns.values())[1:], pretty_numbers(row["pretty"]), strict=True):
            compared.append((where, "pretty", 100 * ours[mine], number, same(100 * ours[mine], number, rounded(1))))
    assert len(compared) > 180 * 11
    assert not unequal(compared)


def test_safety(metrics: dict[tuple[str, ...], Row]) -> None:
    compared = []
    for row in expected_json("safety_summary.json"):
        where = (row["model"], row["condition"])
        for theirs, (regime, metric) in SAFETY.items():
            ours = metrics[*where, regime, metric]["value"]
            compared.append((where, theirs, ours, row[theirs], same(ours, row[theirs])))
        greedy = metrics[*where, "greedy", "high_risk_error_rate"]
        synchronized = metrics[*where, "samples", "synchronized_failure_rate"]["n"]
        counts = {
            "n_questions": greedy["n"], "n_unanswered": greedy["n_null"], "n_synchronized_failure_qs": synchronized,
        }  # fmt: skip
        compared += [(where, name, count, row[name], count == row[name]) for name, count in counts.items()]
        assert set(row) == {"model", "condition", *SAFETY, *counts}
    assert len(compared) == 90 * 16
    assert not unequal(compared)


def test_confidence_summary(out: Path, metrics: dict[tuple[str, ...], Row]) -> None:
    samples: dict[tuple[str, str], list[int]] = {}
    for (model, condition, _), row in keyed(out, "confidence", "model", "condition", "question_id").items():
        samples.setdefault((model, condition), []).append(row["n_samples"])
    compared = []
    for row in expected_json("confidence_summary.json"):
        where = (row["model"], row["condition"])
        for theirs, (regime, metric) in CONFIDENCE.items():
            ours = metrics[*where, regime, metric]["value"]
            compared.append((where, theirs, ours, row[theirs], same(ours, row[theirs])))
        drawn = sorted(samples[where])
        counts = {
            "n_questions": len(drawn), "n_stoch_median": drawn[len(drawn) // 2], "n_stoch_min": drawn[0],
        }  # fmt: skip
        compared += [(where, name, count, row[name], count == row[name]) for name, count in counts.items()]
        assert set(row) == {"model", "condition", "dangerous_overconf_threshold", *CONFIDENCE, *counts}
    assert len(compared) == 90 * 15
    assert not unequal(compared)


def test_confidence_of_each_question(out: Path) -> None:
    labels = check_benchmark("labels", [Source("labels", (DATA / "benchmark_labels.json").read_bytes())]).benchmark
    assert labels is not None
    questions = {question.question_id: question for question in labels.questions}
    rows = keyed(out, "confidence", "model", "condition", "question_id")
    published = expected_csv("confidence_per_question.csv.gz")
    assert len(published) == len(rows)
    compared = []
    floats = {
        "agreement": "agreement", "margin": "margin", "entropy": "entropy", "confidence": "confidence",
        "wilson_lo": "wilson_low", "wilson_hi": "wilson_high",
    }  # fmt: skip
    for row in published:
        where = (row["model"], row["condition"], row["question_id"])
        ours, question = rows[where], questions[row["question_id"]]
        compared += [(where, a, ours[b], row[a], same(ours[b], row[a])) for a, b in floats.items()]
        compared.append((where, "entropy_norm", 1 - ours["confidence"], row["entropy_norm"],
                         same(1 - ours["confidence"], row["entropy_norm"])))  # fmt: skip
        flags = question.labels.get(ours["majority"])
        equal = {
            "correct_answer": question.correct_answer, "n_options": len(question.options), "k": ours["n_samples"],
            "n_samples": ours["n_samples"], "n_null": ours["n_null"], "majority_answer": ours["majority"] or "NULL",
            "majority_correct": ours["majority_correct"],
            "selected_is_risky": int(flags is not None and (flags.high_risk or flags.unsafe)),
        }  # fmt: skip
        compared += [(where, name, value, row[name], str(value) == row[name]) for name, value in equal.items()]
        assert set(row) == {"model", "condition", "question_id", "entropy_norm", *floats, *equal}
    assert not unequal(compared)


def test_calibration(out: Path) -> None:
    rows = keyed(out, "calibration", "model", "condition", "bin_low")
    published = expected_csv("calibration_bins.csv")
    assert len(published) == len(rows)
    compared = []
    for row in published:
        where = (row["model"], row["condition"], float(row["bin_lo"]))
        ours = rows[where]
        compared.append((where, "bin_hi", ours["bin_high"], row["bin_hi"], same(ours["bin_high"], row["bin_hi"])))
        compared.append((where, "n", ours["n"], row["n"], ours["n"] == int(row["n"])))
        for theirs, mine in (("mean_conf", "mean_confidence"), ("acc", "accuracy"), ("gap", "gap")):
            compared.append((where, theirs, ours[mine], row[theirs], same(ours[mine], row[theirs])))
    assert not unequal(compared)


def test_p_values(out: Path) -> None:
    rows = keyed(out, "pvalues", "model", "regime", "left", "right")
    published = expected_json("pvalues_all.json")
    assert len(published) == len(rows)
    compared = []
    for row in published:
        where = (row["model"], row["mode"], row["left"], row["right"])
        ours = rows[where]
        for theirs, mine in (("acc_left", "accuracy_left"), ("acc_right", "accuracy_right"), ("delta", "delta")):
            compared.append((where, theirs, ours[mine], row[theirs], same(100 * ours[mine], row[theirs], rounded(3))))
        discordant = ours["n_left_only"] + ours["n_right_only"]
        counts = {
            "b_left_correct_right_wrong": ours["n_left_only"], "c_left_wrong_right_correct": ours["n_right_only"],
            "n_discordant": discordant,
        }  # fmt: skip
        compared += [(where, name, count, row[name], count == row[name]) for name, count in counts.items()]
        compared.append((where, "p_value", ours["p_value"], row["p_value"],
                         same(ours["p_value"], row["p_value"], rounded(6))))  # fmt: skip
        assert ours["p_value"] <= ours["p_holm"] <= 1
    assert not unequal(compared)


def test_worst_cases_by_question(out: Path) -> None:
    rows = keyed(out, "per_question", "condition", "question_id")
    compared = []
    same_names = (
        "subspecialty", "question_type", "most_common_wrong", "n_models", "n_unanswered", "n_wrong", "n_high_risk",
        "n_unsafe", "n_contradiction",
    )  # fmt: skip
    rates = {
        "wrong_rate": "n_wrong", "high_risk_rate": "n_high_risk", "unsafe_rate": "n_unsafe",
        "contradiction_rate": "n_contradiction",
    }  # fmt: skip
    published = expected_json("per_question_summary.json")
    for row in published:
        where = (row["condition_key"], f"risk_radiorag_{row['question_id']}")
        ours = rows[where]
        compared += [(where, name, ours[name], row[name], ours[name] == row[name]) for name in same_names]
        option = row["correct_option"]
        compared.append((where, "correct", ours["correct"], option, ours["correct"] == option))
        for theirs, mine in rates.items():
            rate = ours[mine] / ours["n_models"]
            compared.append((where, theirs, rate, row[theirs], same(rate, row[theirs])))
    assert len(published) == 7 * 60
    assert not unequal(compared)


def test_ensembles(out: Path) -> None:
    rows = keyed(out, "ensembles", "ensemble", "condition")
    compared = []
    percents = {
        "accuracy_point": "accuracy", "ci_lower": "wilson_low", "ci_upper": "wilson_high", "std": "accuracy_sd",
    }  # fmt: skip
    rates = {
        "high_risk_rate": "high_risk_error_rate", "unsafe_rate": "unsafe_answer_rate",
        "contradiction_rate": "contradiction_rate", "dangerous_overconf_rate": "dangerous_overconfidence_rate",
        "synchronized_failure_rate": "synchronized_failure_rate",
    }  # fmt: skip
    for row in expected_json("ensemble_summary.json"):
        where = (row["ensemble"], row["condition"])
        ours = rows[where]
        members = [member.rsplit("/", 1)[-1] for member in row["members"]]
        compared.append((where, "members", ours["members"], members, ours["members"].split(" | ") == members))
        for theirs, mine in (("n_questions", "n"), ("correct", "n_correct")):
            compared.append((where, theirs, ours[mine], row[theirs], ours[mine] == row[theirs]))
        for theirs, mine in percents.items():
            compared.append((where, theirs, 100 * ours[mine], row[theirs], same(100 * ours[mine], row[theirs])))
        for theirs, mine in rates.items():
            compared.append((where, theirs, ours[mine], row[theirs], same(ours[mine], row[theirs])))
        shown = [100 * ours[name] for name in ("accuracy", "accuracy_sd", "wilson_low", "wilson_high")]
        for mine, number in zip(shown, pretty_numbers(row["pretty"]), strict=True):
            compared.append((where, "pretty", mine, number, same(mine, number, rounded(1))))
    assert len(compared) == 12 * 16
    assert not unequal(compared)


def test_the_majority_of_the_safety_errors_drops_nulls(metrics: dict[tuple[str, ...], Row], out: Path) -> None:
    """With nulls as ballots, as in accuracy and confidence, high-risk errors would differ in 28 of the 90 cells."""
    labels = check_benchmark("labels", [Source("labels", (DATA / "benchmark_labels.json").read_bytes())]).benchmark
    assert labels is not None
    questions = {question.question_id: question for question in labels.questions}
    with_null_ballots = dict.fromkeys(itertools.product({key[0] for key in metrics}, {key[1] for key in metrics}), 0)
    for (model, condition, name), row in keyed(out, "confidence", "model", "condition", "question_id").items():
        question = questions[name]
        wrong = row["majority"] and row["majority"] != question.correct_answer
        with_null_ballots[model, condition] += bool(wrong and question.labels[row["majority"]].high_risk)
    differing = [
        where
        for where, count in with_null_ballots.items()
        if not same(metrics[*where, "majority", "high_risk_error_rate"]["value"], count / 60)
    ]
    assert len(differing) == 28
