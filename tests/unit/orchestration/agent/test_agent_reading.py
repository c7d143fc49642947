import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.orchestration.agent.citations import cited
from safescale.orchestration.agent.reading import (
    MAX_CONCEPTS,
    GeneratedText,
    Sources,
    read_concepts,
    read_conclusion,
    read_plan,
    read_query,
    read_section,
)

QUESTION = "Which imaging test shows a pulmonary embolism in pregnancy?"
OPTIONS = {"A": "CT angiography", "B": "Perfusion scan"}
PASSAGES = {1: "CT angiography shows the embolism directly.", 4: "A perfusion scan has a low dose for the breast."}

SOURCES = Sources(PASSAGES, frozenset({"ct", "angiography"}))


@pytest.mark.parametrize(
    ("text", "cut", "expected"),
    [
        ("pulmonary embolism, pregnancy; breast dose", False, ["pulmonary embolism", "pregnancy", "breast dose"]),
        ("Concepts: pulmonary embolism, low do", True, ["pulmonary embolism"]),
        ("The concepts are:\n1. Pulmonary embolism: a clot, dangerous\n2. Dose", False, ["Pulmonary embolism", "Dose"]),
        ("- embolism\n- embolism\n- Embolism", False, ["embolism"]),
        ("the heart, the liver", False, None),
        ("", False, None),
        ("one embolism that is described in far too many words to be a concept", False, None),
    ],
)
def test_concepts(text: str, cut: bool, expected: list[str] | None) -> None:
    assert read_concepts(GeneratedText(text, cut), QUESTION) == expected


@given(st.text(), st.booleans())
def test_any_text_gives_bounded_concepts_or_none(text: str, cut: bool) -> None:
    found = read_concepts(GeneratedText(text + ", embolism,", cut), QUESTION)
    assert found is None or 1 <= len(found) <= MAX_CONCEPTS


def test_a_plan_is_read_by_letters() -> None:
    text = (
        "Plan:\nA: sensitivity of CT angiography\n**B.** dose of a perfusion scan\nC: what is not an option\n"
        "A: once more, later"
    )
    assert read_plan(GeneratedText(text, False), OPTIONS) == {
        "A": "sensitivity of CT angiography",
        "B": "dose of a perfusion scan",
    }


@pytest.mark.parametrize("text", ["A: CT angiography", "A. the perfusion scan", "A: sensitivity", "no plan at all", ""])
def test_a_plan_line_that_says_nothing_new_is_left_out(text: str) -> None:
    assert read_plan(GeneratedText(text, False), OPTIONS) == {}


def test_the_last_line_of_a_cut_plan_is_left_out() -> None:
    text = "A: sensitivity of CT angiography\nB: dose of a perfu"
    assert list(read_plan(GeneratedText(text, True), OPTIONS)) == ["A"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Query: "embolism in pregnancy"\nmore', "embolism in pregnancy"),
        ("1. dose of perfusion scan", "dose of perfusion scan"),
        ("Asked  Before: embolism!", None),
        ("heart and liver", None),
        ("embolism", None),
        ("embolism " * 17, None),
        ("", None),
    ],
)
def test_queries(text: str, expected: str | None) -> None:
    about = {"embolism", "perfusion"}
    assert read_query(GeneratedText(text, False), ["asked before embolism"], about) == expected


def test_a_query_that_was_cut_cannot_be_used_and_one_before_the_cut_can() -> None:
    assert read_query(GeneratedText("embolism in preg", True), [], {"embolism"}) is None
    assert (
        read_query(GeneratedText("embolism in pregnancy\nThis que", True), [], {"embolism"}) == "embolism in pregnancy"
    )


def test_both_sides_of_a_section() -> None:
    text = "**Supporting:** CT angiography shows the embolism. [1]\nContradicting: None."
    supporting, contradicting = read_section(GeneratedText(text, False), SOURCES)
    assert supporting.text == "CT angiography shows the embolism [1]."
    assert contradicting.text == ""


def test_a_side_that_names_itself_twice() -> None:
    supporting, _ = read_section(GeneratedText("Supporting: Supporting [1] CT shows the embolism.", False), SOURCES)
    assert supporting.text == "[1] CT shows the embolism."


def test_sides_in_the_other_order() -> None:
    text = (
        "Contradicting evidence: The perfusion scan has a low dose [4].\n"
        "Supporting evidence: CT shows the embolism [1]."
    )
    supporting, contradicting = read_section(GeneratedText(text, False), SOURCES)
    assert supporting.text == "CT shows the embolism [1]."
    assert contradicting.text == "The perfusion scan has a low dose [4]."


def test_a_citation_of_a_passage_that_does_not_exist_is_removed() -> None:
    supporting, _ = read_section(GeneratedText("Supporting: CT angiography shows the embolism [1, 7].", False), SOURCES)
    assert supporting.text == "CT angiography shows the embolism [1]."
    assert supporting.removed == (7,)


@pytest.mark.parametrize(
    "text",
    [
        "Supporting: CT angiography shows the embolism.",
        "Supporting: CT angiography shows the embolism [7].",
        "Supporting: The moon is made of cheese [1].",
        "Supporting: The moon of cheese directly causes romantic and regal CT angiography [1].",
        "Supporting: CT angiography is what was asked [4].",
        "Supporting: [1]",
        "CT angiography shows the embolism [1].",
        "",
    ],
)
def test_a_side_without_a_usable_citation_cannot_be_used(text: str) -> None:
    assert read_section(GeneratedText(text, False), SOURCES)[0].text is None


def test_a_side_that_was_cut_ends_with_its_last_sentence() -> None:
    text = "Supporting: CT angiography shows the embolism [1]. The perfu"
    supporting, contradicting = read_section(GeneratedText(text, True), SOURCES)
    assert supporting.text == "CT angiography shows the embolism [1]."
    assert contradicting.text is None


@given(st.text(), st.text(), st.booleans())
def test_sides_cite_existing_passages_only(some: str, other: str, cut: bool) -> None:
    text = f"Supporting: {some} embolism CT [1][8] {other}\nContradicting: {other} [4, 99] {some}"
    for side in read_section(GeneratedText(text, cut), SOURCES):
        assert set(cited(side.text or "")) <= PASSAGES.keys()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Conclusion: The test that shows an embolism is CT [1] [9].", "The test that shows an embolism is CT [1]."),
        ("The test that shows an embolism", "The test that shows an embolism"),
        ("The test on embolism makes many promising romantic friendships across town", None),
        ("I am a research assistant for you.", None),
        ("CT.", None),
        ("", None),
    ],
)
def test_conclusions(text: str, expected: str | None) -> None:
    assert read_conclusion(GeneratedText(text, False), {1}, {"test", "embolism", "ct"}).text == expected
