"""One validation for every way in: what a file is refused for, a message is refused for, too."""

import json
from typing import Any

import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.inputs.records import Source
from safescale.core.safety.benchmark.benchmark import OptionLabels, Question, question_to_dict
from safescale.core.safety.benchmark.formats import Needs, check_benchmark
from safescale.rpc.checked import (
    TO_RUN,
    TO_SCORE,
    checked_benchmark,
    checked_name,
    checked_question,
    checked_questions,
    checked_stem,
)
from safescale.rpc.convert import benchmark_from_proto, question_to_proto, stem_to_proto

HARMLESS = OptionLabels(False, False, False)


def question(identifier: str = "q1", **changes: Any) -> Question:
    fields: dict[str, Any] = {
        "text": "Which?", "options": {"A": "x", "B": "y", "C": "z"}, "correct_answer": "A", "subspecialty": "chest",
        "question_type": "sign", "labels": dict.fromkeys("ABC", HARMLESS),
    }  # fmt: skip
    return Question(identifier, **(fields | changes))


BROKEN = [
    (question(" "), "question_id"),
    (question("chest\x0b1"), "question_id"),
    (question("chest\u202e1"), "question_id"),
    (question("x" * 257), "question_id"),
    (question(text=" "), "question_text"),
    (question(text="a\x00b"), "question_text"),
    (question(text="\uffff"), "question_text"),
    (question(text="x" * 65_537), "question_text"),
    (question(options={"A": "x"}, labels={"A": HARMLESS}), "options"),
    (question(options={}, labels={}), "options"),
    (question(options={"A": "x", "B": "y", "D": "z"}, labels=dict.fromkeys("ABD", HARMLESS)), "options"),
    (question(options={"a": "x", "b": "y"}, correct_answer="a", labels=dict.fromkeys("ab", HARMLESS)), "options.a"),
    (question(options={"A": "x", "B": " ", "C": "z"}), "options.B"),
    (question(options={"A": "same", "B": "Same ", "C": "z"}), "options.B"),
    (question(options={"A": "x", "B": "\x1b[31m", "C": "z"}), "options.B"),
    (question(correct_answer="D"), "correct_answer"),
    (question(correct_answer="a"), "correct_answer"),
    (question(subspecialty="a\nb"), "subspecialty"),
    (question(question_type="a\x7fb"), "question_type"),
    (question(evidence_clean="a\x08b"), "evidence_clean"),
    (question(evidence_conflict="\ufdd0"), "evidence_conflict"),
    (question(deep_research_report="\x9f"), "deep_research_report"),
    (question(labels={}), "labels"),
    (question(labels={"A": HARMLESS}), "labels.B"),
    (question(labels=dict.fromkeys("ABCD", HARMLESS)), "labels.D"),
]


@pytest.mark.parametrize(("broken", "field"), BROKEN)
def test_a_message_is_refused_for_what_a_file_is_refused_for(broken: Question, field: str) -> None:
    line = json.dumps(question_to_dict(broken)).encode()
    found = check_benchmark("f", [Source("f", line)], needs=Needs(texts=True, labels=True))
    assert field in [defect.field for defect in found.defects]
    with pytest.raises(InvalidInputError) as caught:
        checked_benchmark("b", [question_to_proto(broken)], False)
    assert field in [defect.field for defect in caught.value.defects]
    assert all(each.isprintable() for each in caught.value.message)


@pytest.mark.parametrize("second", ["q1", "0001", "risk_radiorag_1"])
def test_two_questions_of_one_id_are_refused(second: str) -> None:
    first = "q1" if second == "q1" else "1"
    messages = [question_to_proto(question(first)), question_to_proto(question(second))]
    with pytest.raises(InvalidInputError, match=r"questions\[1\].*since questions\[0\] has this one"):
        checked_benchmark("b", messages, False)


def test_labels_are_for_all_questions_or_for_none() -> None:
    without = [question_to_proto(question(identifier, labels={})) for identifier in ("a", "b")]
    assert len(checked_questions(without, TO_SCORE)) == 2
    with pytest.raises(InvalidInputError, match=r"questions\[0\]: a labels = missing"):
        checked_questions([without[0], question_to_proto(question("b"))], TO_SCORE)
    with pytest.raises(InvalidInputError, match=r"a labels = missing; expected .* \(and 1 more\)"):
        checked_questions(without, TO_RUN)


def test_scoring_needs_no_text_but_all_labels_or_none() -> None:
    assert checked_question(question_to_proto(question(text="")), TO_SCORE).text == ""
    assert checked_question(question_to_proto(question(labels={})), TO_SCORE).labels == {}
    with pytest.raises(InvalidInputError, match=r"q1 labels.B = missing; expected high_risk, unsafe, contradicts"):
        checked_question(question_to_proto(question(labels={"A": HARMLESS})), TO_SCORE)


def test_the_defects_of_a_message_are_listed_with_an_end() -> None:
    many = [question_to_proto(question(f"q{number}", correct_answer="Z")) for number in range(300)]
    with pytest.raises(InvalidInputError, match=r"\(and 299 more\)") as caught:
        checked_benchmark("b", many, False)
    assert len(caught.value.defects) == 100


def test_a_benchmark_without_questions_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="questions is empty"):
        checked_benchmark("b", [], False)


def test_a_stem_is_held_to_the_same_rules() -> None:
    checked_stem(stem_to_proto(question()))
    for broken, field in (
        (question(""), "question_id"),
        (question(text=""), "question_text"),
        (BROKEN[8][0], "options"),
    ):
        with pytest.raises(InvalidInputError, match=field):
            checked_stem(stem_to_proto(broken))


def test_a_name_is_needed_and_can_be_shown() -> None:
    assert checked_name("reviewer", "Dr. Ö") == "Dr. Ö"
    assert checked_name("batch_id", "", needed=False) == ""
    with pytest.raises(InvalidInputError, match="reviewer is empty"):
        checked_name("reviewer", " ")
    with pytest.raises(InvalidInputError, match=r"reviewer is U\+001B at character 2"):
        checked_name("reviewer", "a\x1b[2J")


def test_what_was_stored_before_is_read_as_it_is() -> None:
    stored = benchmark_from_proto("old", [question_to_proto(question("chest\x0b1", labels={"A": HARMLESS}))], False)
    assert stored.questions[0].question_id == "chest\x0b1"
    # An option without labels is not harmless: nothing is said about harm.
    assert not stored.labelled
