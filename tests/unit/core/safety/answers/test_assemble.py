import numpy as np
import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answers import label_set
from safescale.core.safety.answers.assemble import CellAnswers, answer_sets
from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question
from safescale.core.safety.tables.analysis import analyse


def question(identifier: str) -> Question:
    labels = {letter: OptionLabels(letter != "B", letter != "B", False) for letter in "AB"}
    return Question(identifier, "t", {"A": "a", "B": "b"}, "B", "chest", "diagnosis", labels=labels)


BANK = Benchmark("b", tuple(question(f"q{i}") for i in range(3)))


def cell(number: int, greedy: str, samples: str, formulation: str = "letter") -> CellAnswers:
    return CellAnswers("m", "zero_shot", f"q{number}", formulation, greedy, samples, 0.5)


def test_formulations_are_kept_apart() -> None:
    sets = answer_sets([cell(0, "A", "AB"), cell(1, "B", "", "cloze")])
    assert sorted(sets) == ["cloze", "letter"]
    assert sets["letter"].question_ids == ("q0",)
    assert sets["cloze"].formulation == "cloze"


def test_a_cell_there_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="twice"):
        answer_sets([cell(0, "A", ""), cell(0, "B", "")])


@pytest.mark.parametrize(
    ("greedy", "samples", "accuracy", "high_risk"),
    [("BBB", "BBBB", 1.0, 0.0), ("AAA", "AAAA", 0.0, 1.0), ("---", "----", 0.0, 0.0), ("BBB", "", 1.0, 0.0)],
)
@pytest.mark.parametrize("count", [1, 3])
def test_answers_that_are_all_alike_are_measured_too(greedy, samples, accuracy, high_risk, count) -> None:
    cells = [cell(i, greedy[i], samples) for i in range(count)]
    answers = answer_sets(cells)["letter"]
    tables = analyse(answers, label_set(BANK, answers.question_ids))
    rows = {(row["regime"], row["metric"]): row for row in tables["metrics"].rows()}
    for regime in ("greedy", "majority") if samples else ("greedy",):
        found = rows[regime, "accuracy"]
        assert found["value"] == found["boot_mean"] == found["ci_low"] == found["ci_high"] == accuracy
        assert found["boot_sd"] == 0
        assert rows[regime, "high_risk_error_rate"]["ci_high"] == high_risk
    assert not np.isnan(rows["greedy", "latency_mean_s"]["ci_low"])
