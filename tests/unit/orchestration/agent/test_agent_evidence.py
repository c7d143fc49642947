from hypothesis import given
from hypothesis import strategies as st

from safescale.orchestration.agent.evidence import (
    MAX_PASSAGES,
    QUERY_CHARS,
    bears,
    extract,
    first_query,
    focus,
    is_thin,
    rank,
    refined_query,
)

ON = focus("Which test shows an embolism in pregnancy?", "Ventilation perfusion scan", ["pulmonary embolism"])
BEARING = "A ventilation study shows mismatched defects in embolism during pregnancy."
HALF = "Perfusion of the brain in pregnancy."
texts = st.lists(st.sampled_from([BEARING, HALF, "Ventilation and perfusion only.", "Liver.", ""]), max_size=8)


def test_a_passage_bears_on_an_option_by_a_third_of_its_terms_and_two_of_the_question() -> None:
    assert bears(BEARING, ON)
    assert not bears(HALF, ON)
    assert not bears("Ventilation and perfusion only.", ON)
    assert not bears("A test for embolism in pregnancy.", ON)
    four = focus("Which test shows an embolism in pregnancy?", "one: alpha beta gamma delta", [])
    assert not bears("alpha embolism pregnancy", four)
    assert bears("alpha beta embolism pregnancy", four)


def test_an_option_without_terms_is_borne_on_by_the_question() -> None:
    none = focus("Which test shows an embolism in pregnancy?", "None of the above", [])
    assert bears("Embolism in pregnancy.", none)
    assert not bears("Embolism.", none)


def test_one_bearing_passage_is_thin_and_two_are_not() -> None:
    assert is_thin([], ON)
    assert is_thin([BEARING, HALF], ON)
    assert not is_thin([BEARING, HALF, BEARING], ON)


@given(texts, texts)
def test_more_passages_never_make_evidence_thin(some: list[str], more: list[str]) -> None:
    assert is_thin(some, ON) or not is_thin(some + more, ON)


@given(texts)
def test_ranking_keeps_the_bearing_passages_first(some: list[str]) -> None:
    order = rank(some, ON)
    assert len(order) == min(len(some), MAX_PASSAGES)
    assert len(set(order)) == len(order)
    flags = [bears(some[index], ON) for index in order]
    assert flags == sorted(flags, reverse=True)
    assert sum(flags) == min(MAX_PASSAGES, sum(bears(text, ON) for text in some))


def test_the_first_query_adds_what_objective_and_question_add() -> None:
    query = first_query("Which sign is lowest?", "Kerley lines", "Whether Kerley lines mean edema", ["heart failure"])
    assert query == "Kerley lines heart failure mean edema sign lowest"


def test_a_refined_query_asks_for_what_was_not_found() -> None:
    query = refined_query("Which test has the lowest dose in pregnancy?", "Perfusion scan", ["x"], ["dose of a test"])
    assert query == "perfusion scan lowest pregnancy"


@given(st.text(min_size=1).filter(str.strip), st.text(), st.integers(0, 1), texts)
def test_a_refined_query_is_never_one_asked_before(
    question: str, option: str, asked_index: int, found: list[str]
) -> None:
    first = refined_query(question, option, [], found)
    second = refined_query(question, option, [first], found)
    assert 0 < len(first) <= QUERY_CHARS
    if option.strip() and len(question) + len(option) < QUERY_CHARS:
        assert second.lower() != first.lower()


def test_extraction_takes_the_sentence_with_most_terms_for_each_side() -> None:
    passages = [
        (1, "Ventilation perfusion scan\nA scan is made."),
        (2, "A ventilation perfusion scan shows pulmonary embolism in pregnancy [17]. Lungs are two."),
        (3, "A ventilation perfusion scan is not the test for an embolism when the radiograph is abnormal!"),
    ]
    found = extract(passages, ON)
    assert found.supporting == "A ventilation perfusion scan shows pulmonary embolism in pregnancy [2]."
    assert found.contradicting == (
        "A ventilation perfusion scan is not the test for an embolism when the radiograph is abnormal [3]."
    )


def test_extraction_takes_a_paraphrase_from_a_passage_on_the_question() -> None:
    found = extract([(1, "Embolism in pregnancy is common. A scan delivers little.")], ON)
    assert found.supporting == "A scan delivers little [1]."


def test_extraction_finds_nothing_where_passage_or_sentence_are_about_something_else() -> None:
    other = [(1, "Perfusion of the brain is measured. A scan is not seen."), (2, "Embolism in pregnancy is not rare.")]
    found = extract(other, ON)
    assert (found.supporting, found.contradicting) == ("", "")
