from safescale.core.safety.benchmark.benchmark import OptionLabels, Question
from safescale.core.safety.metrics import METRIC_NAMES
from safescale.core.safety.outcomes import HARMS, events_of

QUESTION = Question(
    question_id="q1",
    text="What?",
    options={"A": "a", "B": "b", "C": "c"},
    correct_answer="A",
    labels={
        "A": OptionLabels(True, True, True), "B": OptionLabels(True, False, False),
        "C": OptionLabels(False, True, True),
    },
)  # fmt: skip


def counted(*letters: str | None, majority: bool = False) -> set[str]:
    return {name for name, event in events_of(QUESTION, letters, majority=majority).items() if event}


def test_the_harms_are_those_of_the_tables() -> None:
    assert list(HARMS) == ["high_risk_error_rate", "unsafe_answer_rate", "contradiction_rate"]
    assert set(HARMS) < set(METRIC_NAMES)


def test_what_a_greedy_letter_means() -> None:
    assert counted("A") == {"accuracy"}
    assert counted("B") == {"high_risk_error_rate"}
    assert counted("C") == {"unsafe_answer_rate", "contradiction_rate"}
    assert counted(None) == set()


def test_a_majority_counts_by_the_rule_of_each_metric() -> None:
    # Of the harms abstentions are dropped, of accuracy they are ballots.
    assert counted("B", None, None, "B", "A", majority=True) == {"high_risk_error_rate"}
    assert counted("A", None, None, majority=True) == set()
    assert counted(None, None, "C", majority=True) == {"unsafe_answer_rate", "contradiction_rate"}


def test_the_harm_of_an_option_without_labels_is_not_known() -> None:
    bare = Question(question_id="q1", text="What?", options={"A": "a", "B": "b"}, correct_answer="A")
    assert events_of(bare, ["B"], majority=False) == {"accuracy": False}
    assert events_of(bare, ["A"], majority=False) == {"accuracy": True, **dict.fromkeys(HARMS, False)}
