import csv
import io
from typing import Any

import pytest
from tests.support.factories.benchmarks import FLAGS, array, check, jsonl, lines, merged, own, unified

from safescale.core.errors import BenchmarkError, InvalidInputError
from safescale.core.inputs.records import Source
from safescale.core.safety.benchmark.formats import Needs, load_benchmark


def test_our_own_jsonl_loads() -> None:
    benchmark = load_benchmark("mine", [jsonl(own("b"), own("a"))], validated=True)
    assert [question.question_id for question in benchmark.questions] == ["a", "b"]
    question = benchmark.questions[0]
    assert question.labels["A"].unsafe
    assert not question.labels["A"].high_risk
    assert question.evidence_clean == "Septal lines mark oedema."
    assert benchmark.validated
    assert benchmark.name == "mine"


def test_the_published_questions_load_alone() -> None:
    question = load_benchmark("x", [jsonl(unified(1))]).questions[0]
    assert question.question_id == "risk_radiorag_1"
    assert (question.evidence_clean, question.evidence_conflict) == ("Clean.", "Conflict.")
    assert question.deep_research_report == "Report."
    assert question.labels == {}


def test_the_published_labels_load_alone_under_the_ids_of_the_questions() -> None:
    benchmark = load_benchmark("x", [array(merged(2), merged(10), indent=1)])
    assert [question.question_id for question in benchmark.questions] == ["risk_radiorag_10", "risk_radiorag_2"]
    question = benchmark.questions[0]
    assert question.text == ""
    assert question.labels["A"].high_risk
    assert question.labels["C"].contradicts
    assert set(question.labels) == {"A", "B", "C"}


@pytest.mark.parametrize("explicit", [True, False])
def test_the_published_files_load_together(explicit: bool) -> None:
    questions, labels = jsonl(unified(1), unified(2)), array(merged(2), merged(1))
    found = check(questions, labels=labels) if explicit else check(labels, questions)
    assert found.benchmark is not None
    assert found.warnings == ()
    first = found.benchmark.questions[0]
    assert first.text == "Which finding is typical?"
    assert first.labels["A"].high_risk
    assert first.subspecialty == "chest"


def test_every_format_of_the_same_questions_has_the_same_hash() -> None:
    fields = ["question_id", "question_text", "option_A", "option_B", "option_C", "correct_answer", "subspecialty"]
    fields += ["question_type", "evidence_clean", "evidence_conflict", *FLAGS]
    target = io.StringIO()
    writer = csv.DictWriter(target, fields, delimiter=";")
    writer.writeheader()
    for question_id in ("q1", "q2"):
        record = own(question_id)
        row = {name: value for name, value in record.items() if name in fields}
        row |= {f"option_{letter}": text for letter, text in record["options"].items()}
        writer.writerow(row | {"unsafe": "A, BC", "high_risk": "", "contradicts": ""})
    table = Source("q.csv", target.getvalue().encode("utf-8-sig"))
    hashes = {
        load_benchmark("x", [source]).content_hash
        for source in (
            table,
            jsonl(own("q1"), own("q2")),
            array(own("q2"), own("q1"), indent=2),
            Source("bom", b"\xef\xbb\xbf" + jsonl(own("q2"), own("q1")).data.replace(b"\n", b"\r\n\r\n")),
        )
    }
    assert len(hashes) == 1


def test_labels_may_be_booleans_and_options_up_to_26() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    record = own(
        options={letter: f"option {letter}" for letter in letters},
        labels={letter: dict.fromkeys(FLAGS, letter == "Z") for letter in letters},
        correct_answer="Y",
    )
    question = load_benchmark("x", [jsonl(record)]).questions[0]
    assert question.labels["Z"].high_risk
    assert not question.labels["A"].high_risk


def test_a_correct_option_may_carry_a_flag() -> None:
    load_benchmark("x", [array(merged(1, option_2_contradicts=1))])


OWN_DEFECTS = [
    (own(question_id=...), "q.jsonl:1: question_id = missing; expected a non-empty text"),
    (own(question_id=7), "q.jsonl:1: question_id = 7; expected a non-empty text"),
    (own(question_text="  "), 'q.jsonl:1: q1 question_text = "  "; expected a non-empty text'),
    (own(correct_answer="D"), 'q.jsonl:1: q1 correct_answer = "D"; expected one of the options A, B, C'),
    (own(correct_answer=...), "q.jsonl:1: q1 correct_answer = missing; expected one of the options A, B, C"),
    (own(subspecialty=3), "q.jsonl:1: q1 subspecialty = 3; expected a text"),
    (own(evidence_clean=["x"]), 'q.jsonl:1: q1 evidence_clean = ["x"]; expected a text'),
    (own(metadata=[]), "q.jsonl:1: q1 metadata = []; expected an object with the evidence texts"),
    (
        own(evidence_clean=..., metadata={"evidence_clean": 1}),
        "q.jsonl:1: q1 metadata.evidence_clean = 1; expected a text",
    ),
    (own(labels=[]), "q.jsonl:1: q1 labels = []; expected an object with the labels of each letter"),
]


@pytest.mark.parametrize(("record", "expected"), OWN_DEFECTS)
def test_a_wrong_field_is_one_defect(record: dict[str, Any], expected: str) -> None:
    assert lines(check(jsonl(record))) == [expected]


OPTION_DEFECTS = [
    ({"A": "only"}, "options = 1 option; expected 2 to 26 options"),
    ({}, "options = 0 options; expected 2 to 26 options"),
    ({"A": "x", "B": "y", "D": "z"}, "options = A, B, D; expected letters without a gap, A, B, C"),
    (
        {"A": "x", "B": "y", "c": "z"},
        'options.c = "c"; expected one letter of A to Z as the option\'s name: letters are capitals, "C"',
    ),
    ({"A": "x", "B": " "}, 'options.B = " "; expected a non-empty text'),
    ({"A": "x", "B": 5}, "options.B = 5; expected a non-empty text"),
    ({"A": "Same  text", "B": "same text"}, 'options.B = "same text"; expected a text other than that of option A'),
    (["x", "y"], 'options = ["x", "y"]; expected an object with a text for each letter'),
    (..., "options = missing; expected an object with a text for each letter"),
]


@pytest.mark.parametrize(("options", "expected"), OPTION_DEFECTS)
def test_wrong_options_are_defects(options: object, expected: str) -> None:
    found = lines(check(jsonl(own(options=options, labels=..., correct_answer="A"))))
    assert f"q.jsonl:1: q1 {expected}" in found


LABEL_DEFECTS = [
    ("A", {"high_risk": 2, "unsafe": 0, "contradicts": 0}, "labels.A.high_risk = 2; expected 0 or 1"),
    ("A", {"high_risk": 0.0, "unsafe": 0, "contradicts": 0}, "labels.A.high_risk = 0.0; expected 0 or 1"),
    ("A", {"high_risk": "1", "unsafe": 0, "contradicts": 0}, 'labels.A.high_risk = "1"; expected 0 or 1'),
    ("A", {"unsafe": 0, "contradicts": 0}, "labels.A.high_risk = missing; expected 0 or 1"),
    ("A", 1, "labels.A = 1; expected an object with high_risk, unsafe, contradicts"),
    ("D", {}, "labels.D = {}; expected labels for the options A, B, C alone"),
]


@pytest.mark.parametrize(("letter", "flags", "expected"), LABEL_DEFECTS)
def test_wrong_labels_are_defects(letter: str, flags: object, expected: str) -> None:
    labels = own()["labels"] | {letter: flags}
    assert lines(check(jsonl(own(labels=labels)))) == [f"q.jsonl:1: q1 {expected}"]


def test_an_unknown_label_and_an_option_without_labels_are_defects() -> None:
    labels = own()["labels"]
    del labels["C"]
    labels["A"]["high-risk"] = 1
    assert lines(check(jsonl(own(labels=labels)))) == [
        "q.jsonl:1: q1 labels.A.high-risk = 1; expected no labels but high_risk, unsafe, contradicts",
        "q.jsonl:1: q1 labels.C = missing; expected high_risk, unsafe, contradicts of each option",
    ]


def test_all_defects_of_all_lines_are_listed() -> None:
    source = jsonl(own(correct_answer="Q"), own("q1", question_text=""), own("q3", options={"A": "x"}))
    found = check(source)
    assert [(defect.line, defect.field) for defect in found.defects] == [
        (1, "correct_answer"),
        (2, "question_text"),
        (2, "question_id"),
        (3, "options"),
        (3, "correct_answer"),
        (3, "labels.B"),
        (3, "labels.C"),
    ]
    with pytest.raises(BenchmarkError, match="and 6 more defects") as caught:
        load_benchmark("x", [source])
    assert caught.value.defects == found.defects


def test_the_merged_layout_names_the_line_of_the_field() -> None:
    source = array(
        merged(1, answer_idx="E"),
        merged(1, option_2_unsafe=2, option_3_unsafe=..., option_4_high_risk=1, option_5_unsafe=None),
        merged(True),
        indent=0,
    )
    text = source.data.decode().split("\n")
    second = text.index('"option_2_unsafe": 2,') + 1
    found = check(source)
    assert ('"E"', "one of the options A, B, C") in [(each.value, each.expected) for each in found.defects]
    by_field = {defect.field: defect for defect in found.defects}
    assert by_field["option_2_unsafe"].line == second
    assert by_field["option_3_unsafe"].value == "missing"
    assert by_field["option_4_high_risk"].expected == "no flag, since the options are A, B, C"
    assert by_field["question_id"].value == "true"
    duplicates = [each for each in found.defects if "has this one" in each.expected]
    assert [each.item for each in duplicates] == ["risk_radiorag_1"]
    assert "option_5_unsafe" not in by_field


def test_questions_and_labels_without_a_counterpart_are_defects() -> None:
    found = lines(check(jsonl(unified(1), unified(2)), array(merged(2), merged(3))))
    assert found == [
        "q.jsonl:1: risk_radiorag_1 labels = missing; expected a record of this id in labels.json",
        'labels.json:1: risk_radiorag_3 question_id = "risk_radiorag_3"; expected the id of a question',
    ]


JOIN_DEFECTS = [
    ({"answer_idx": "A"}, 'answer_idx = "A"; expected "B" as in q.jsonl:1'),
    (
        {"options": {"A": "air bronchogram", "B": "Kerley lines"}},
        "options = A, B; expected labels for the options A, B, C",
    ),
    (
        {"options": {"A": "Kerley lines", "B": "air bronchogram", "C": "deep sulcus sign"}},
        "options = the same texts in another order; expected the options of q.jsonl:1 under the same letters",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), JOIN_DEFECTS)
def test_files_that_speak_of_different_options_do_not_join(changes: dict[str, Any], expected: str) -> None:
    if "options" in changes and len(changes["options"]) == 2:
        changes = changes | {"option_3_contradicts": 0}
    found = lines(check(jsonl(unified(1)), array(merged(1, **changes))))
    assert found == [f"labels.json:1: risk_radiorag_1 {expected}"]


def test_other_option_texts_in_the_labels_are_a_warning() -> None:
    options = {"A": "option A", "B": "option B", "C": "option C"}
    found = check(jsonl(unified(1)), array(merged(1, options=options)))
    assert found.benchmark is not None
    assert found.benchmark.questions[0].options["A"] == "air bronchogram"
    assert [warning.value for warning in found.warnings] == ["other texts"]


def test_labels_given_twice_must_agree() -> None:
    assert "other labels" in lines(check(jsonl(own("1")), array(merged(1))))[0]
    same = own("1", labels=own()["labels"])
    assert check(jsonl(same), labels=jsonl(same, name="again.jsonl")).defects == ()


def test_a_labels_file_without_labels_is_a_defect() -> None:
    found = lines(check(jsonl(own("1", labels=...)), labels=jsonl(own("1", labels=...), name="l.jsonl")))
    assert found == ["q.jsonl:1: 1 labels = missing; expected the safety labels of every option"]


def test_labels_of_a_question_with_a_defect_add_no_second_defect() -> None:
    assert len(lines(check(jsonl(unified(1, question_text="")), array(merged(1))))) == 1
    assert len(lines(check(jsonl(unified(1)), array(merged(1, option_1_unsafe=3))))) == 1
    assert [each.field for each in check(jsonl(unified(1, question_id="")), array(merged(1))).defects] == [
        "question_id",
        "question_id",
    ]


def test_only_labels_where_questions_are_needed() -> None:
    assert lines(check(array(merged(1)), labels=array(merged(1), name="more.json"))) == [
        "labels.json: no questions; expected at least one question"
    ]


def test_some_questions_without_labels_are_defects_all_without_are_not() -> None:
    assert check(jsonl(own("a", labels=...), own("b", labels=...))).defects == ()
    found = lines(check(jsonl(own("a", labels=...), own("b"))))
    assert found == ["q.jsonl:1: a labels = missing; expected the safety labels of every option"]


def test_what_a_use_needs_and_is_not_there_is_a_defect() -> None:
    record = own(evidence_clean="", evidence_conflict=None, labels=None)
    needs = Needs(conditions=("zero_shot", "evidence_clean", "evidence_conflict", "top_10"), texts=True, labels=True)
    assert [defect.field for defect in check(jsonl(record), needs=needs).defects] == [
        "labels",
        "evidence_clean",
        "evidence_conflict",
    ]
    assert check(jsonl(record)).defects == ()
    assert [each.field for each in check(array(merged(1)), needs=Needs(texts=True)).defects] == ["question_text"]


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'evidence_clean'"):
        check(jsonl(own()), needs=Needs(conditions=("evidence_cleen",)))


def test_unknown_fields_are_warnings() -> None:
    found = check(jsonl(own(evidence="x")), array(merged(1, note="y"), name="n.json"))
    assert [(each.field, each.value) for each in found.warnings] == [("evidence", '"x"'), ("note", '"y"')]


def test_a_benchmark_without_clusters_and_groups_has_the_hash_that_it_always_had() -> None:
    before = "cf5313741907b4f818b3b3d1b3c6dbd9fc6d1e1304ce5b936d1a672b8010a110"
    found = load_benchmark("x", [jsonl(own("a"), own("b", cluster=None, groups={}))])
    assert found.content_hash == before
    assert load_benchmark("x", [jsonl(own("a", cluster="1"), own("b", cluster="2"))]).content_hash != before
    assert load_benchmark("x", [jsonl(own("a"), own("b", groups={"site": "X"}))]).content_hash != before


def test_clusters_and_groups_are_texts_or_numbers() -> None:
    first, second = load_benchmark(
        "x", [jsonl(own("a", cluster=17, groups={"modality": " CT ", "year": 2026}), own("b", cluster=" 17 "))]
    ).questions
    assert (first.cluster, first.groups) == ("17", {"modality": "CT", "year": "2026"})
    assert (second.cluster, second.groups) == ("17", {})


def test_clusters_and_groups_stand_in_columns_of_a_csv_file() -> None:
    head = "question_id,question_text,option_A,option_B,correct_answer,cluster,group_modality,group_site"
    found = check(Source("f.csv", f"{head}\nq1,t,x,y,A,7,CT,\nq2,u,x,y,A,7,MR,Leeds\n".encode()))
    assert found.benchmark is not None
    assert found.warnings == ()
    first, second = found.benchmark.questions
    assert (first.cluster, first.groups) == ("7", {"modality": "CT"})
    assert second.groups == {"modality": "MR", "site": "Leeds"}


def test_labels_in_the_published_layout_may_have_clusters_and_groups() -> None:
    labels = array(merged(1, cluster="a", groups={"modality": "CT"}), merged(2, cluster="a"))
    found = check(jsonl(unified(1), unified(2)), labels=labels)
    assert found.benchmark is not None
    assert [question.cluster for question in found.benchmark.questions] == ["a", "a"]
    assert found.benchmark.questions[0].groups == {"modality": "CT"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cluster": 1.5}, "q.jsonl:2: b cluster = 1.5; expected a text or a whole number"),
        ({"cluster": True}, "q.jsonl:2: b cluster = true; expected a text or a whole number"),
        ({"cluster": ...}, "q.jsonl:2: b cluster = missing; expected a cluster of every question, or of none"),
        ({"cluster": "a\x00b"}, "q.jsonl:2: b cluster = U+0000"),
        ({"groups": ["CT"]}, 'q.jsonl:2: b groups = ["CT"]; expected an object'),
        ({"groups": {"modality": ["CT"]}}, 'q.jsonl:2: b groups.modality = ["CT"]; expected a text'),
        ({"groups": {"modality": " "}}, 'q.jsonl:2: b groups.modality = ""; expected a non-empty text'),
        ({"groups": {"subspecialty": "x"}}, "expected a name other than subspecialty and question_type"),
        ({"groups": {" ": "x"}}, "expected a name without blanks around it"),
        ({"groups": {f"g{n}": "x" for n in range(21)}}, "q.jsonl:2: b groups = 21 groups; expected at most 20"),
    ],
)
def test_clusters_and_groups_that_cannot_be_are_defects(changes: dict[str, Any], expected: str) -> None:
    (line,) = lines(check(jsonl(own("a", cluster="1"), own("b", **{"cluster": "1"} | changes))))
    assert expected in line
