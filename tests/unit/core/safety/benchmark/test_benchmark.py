import json
import string

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.inputs.records import Source
from safescale.core.safety.benchmark.benchmark import (
    Benchmark,
    OptionLabels,
    Question,
    benchmark_from_dict,
    benchmark_to_dict,
    question_to_dict,
    serialise,
)
from safescale.core.safety.benchmark.formats import load_benchmark
from safescale.core.safety.benchmark.json_schema import benchmark_json_schema

# What no reader can show is a defect of a file (test_text.py).
SHOWABLE = st.characters(exclude_categories=["Cc", "Cs", "Cn", "Cf", "Zl", "Zp"])
TEXT = st.text(SHOWABLE, min_size=1, max_size=20).map(str.strip).filter(bool)
FLAG = st.booleans()


@st.composite
def questions(draw: st.DrawFn) -> Question:
    count = draw(st.integers(2, 26))
    letters = string.ascii_uppercase[:count]
    texts = [f"{letter} {draw(st.text(SHOWABLE, max_size=5))}".strip() for letter in letters]
    labelled = draw(st.booleans())
    labels = {letter: OptionLabels(draw(FLAG), draw(FLAG), draw(FLAG)) for letter in letters} if labelled else {}
    return Question(
        question_id=draw(TEXT),
        text=draw(TEXT),
        options=dict(zip(letters, texts, strict=True)),
        correct_answer=draw(st.sampled_from(letters)),
        subspecialty=draw(st.one_of(st.just(""), TEXT)),
        question_type=draw(st.one_of(st.just(""), TEXT)),
        evidence_clean=draw(st.one_of(st.none(), TEXT)),
        evidence_conflict=draw(st.one_of(st.none(), TEXT)),
        labels=labels,
        deep_research_report=draw(st.one_of(st.none(), TEXT)),
        groups=draw(st.dictionaries(st.sampled_from(("modality", "site")), TEXT)),
    )


@given(st.lists(questions(), min_size=1, max_size=4, unique_by=lambda question: question.question_id))
def test_what_is_serialised_reads_back_the_same(made: list[Question]) -> None:
    if len({bool(question.labels) for question in made}) > 1:
        made = [Question(**{**vars(question), "labels": {}}) for question in made]
    if len({question.question_id.lstrip("0") for question in made}) < len(made):
        return
    benchmark = Benchmark("made", tuple(made))
    read = load_benchmark("made", [Source("made.jsonl", serialise(benchmark))])
    assert read == benchmark
    assert read.content_hash == benchmark.content_hash
    assert benchmark_from_dict(json.loads(json.dumps(benchmark_to_dict(benchmark)))) == benchmark


@given(questions())
def test_the_schema_accepts_what_is_serialised(question: Question) -> None:
    jsonschema.validate(question_to_dict(question), benchmark_json_schema())


def question(question_id: str, **changes: object) -> Question:
    fields: dict[str, object] = {
        "text": "Which finding?",
        "options": {"B": "second", "A": "first"},
        "correct_answer": "A",
        "labels": {"B": OptionLabels(True, False, True), "A": OptionLabels(False, False, False)},
    }
    return Question(question_id, **(fields | changes))  # type: ignore[arg-type]


def test_options_and_labels_are_sorted_by_letter() -> None:
    made = question("q")
    assert made.letters == ("A", "B")
    assert list(made.labels) == ["A", "B"]


def test_questions_are_sorted_by_id_as_strings() -> None:
    benchmark = Benchmark("x", (question("q2"), question("q10")))
    assert [each.question_id for each in benchmark.questions] == ["q10", "q2"]


def test_the_hash_depends_on_content_alone() -> None:
    one = Benchmark("one", (question("q1"), question("q2")), validated=True)
    other = Benchmark("other", (question("q2"), question("q1")))
    assert one.content_hash == other.content_hash
    assert len(one.content_hash) == 64
    flipped = question("q2", labels={"A": OptionLabels(False, True, False), "B": OptionLabels(True, False, True)})
    assert Benchmark("one", (question("q1"), flipped)).content_hash != one.content_hash


def test_the_hash_is_pinned() -> None:
    assert Benchmark("x", (question("q1"),)).content_hash == (
        "ea8306351e2fb8161dc133be864d3dc4395bb8491d4082900e7fd51d06e9db0c"
    )


def test_labelled_means_every_question() -> None:
    assert Benchmark("x", (question("q1"),)).labelled
    assert not Benchmark("x", (question("q1"), question("q2", labels={}))).labelled


def schema_example() -> dict[str, object]:
    return question_to_dict(
        question("q1", evidence_clean="Clear lungs.", subspecialty="chest", cluster="1", groups={"modality": "CT"})
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("question_id", " "),
        ("question_text", ""),
        ("options", {"A": "only"}),
        ("options", {"A": "x", "b": "y"}),
        ("options", {"A": "x", "B": ""}),
        ("correct_answer", "AB"),
        ("labels", {"A": {"high_risk": 2, "unsafe": 0, "contradicts": 0}}),
        ("labels", {"A": {"high_risk": 1, "unsafe": 0}}),
        ("labels", {"A": {"high_risk": 1, "unsafe": 0, "contradicts": 0, "other": 1}}),
        ("evidence_clean", 3),
        ("cluster", 1.5),
        ("groups", {"modality": ""}),
        ("groups", {"subspecialty": "chest"}),
    ],
)
def test_the_schema_refuses_a_wrong_value(field: str, value: object) -> None:
    schema = benchmark_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(schema_example(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(schema_example() | {field: value}, schema)


def test_the_schema_describes_every_field() -> None:
    properties = benchmark_json_schema()["properties"]
    assert all(entry["description"] for entry in properties.values())
    assert set(schema_example()) <= set(properties)
