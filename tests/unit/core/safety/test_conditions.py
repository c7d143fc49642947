import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.safety.builders import TopK
from safescale.core.safety.conditions import (
    CONDITION_IDS,
    CONDITIONS,
    PAIRS,
    condition,
)


def test_the_table_is_the_papers() -> None:
    assert CONDITION_IDS == (
        "zero_shot",
        "evidence_clean",
        "evidence_conflict",
        "top_1",
        "top_5",
        "top_10",
        "padded_top_1",
        "deep_research",
        "context_32k",
        "context_100k",
        "context_max",
    )
    assert [row.builder.k for row in CONDITIONS if isinstance(row.builder, TopK)] == [1, 5, 10]


def test_every_pair_is_of_two_conditions_and_listed_once() -> None:
    assert len(PAIRS) == len(set(PAIRS)) == 12
    assert {name for pair in PAIRS for name in pair} <= set(CONDITION_IDS)
    assert all(left != right for left, right in PAIRS)
    assert condition("deep_research").pairs == (("deep_research", "top_10"), ("deep_research", "zero_shot"))


def test_evidence_comes_from_the_question_in_two_conditions_and_without_an_agent_in_three() -> None:
    fields = {row.id: field for row in CONDITIONS if (field := row.builder.text_field(agent=True))}
    assert fields == {"evidence_clean": "evidence_clean", "evidence_conflict": "evidence_conflict"}
    without = {row.id: field for row in CONDITIONS if (field := row.builder.text_field(agent=False))}
    assert without == {**fields, "deep_research": "deep_research_report"}


@pytest.mark.parametrize("agent", [True, False])
def test_a_context_is_built_from_a_corpus_or_its_text_is_there(agent: bool) -> None:
    for row in CONDITIONS:
        built, text = row.builder.needs_corpus(agent=agent), row.builder.text_field(agent=agent)
        assert (built, text is not None) in {(True, False), (False, True)} or row.id == "zero_shot"


@pytest.mark.parametrize(("name", "message"), [("top_01", "did you mean 'top_1'"), ("?", "expected one of zero_shot")])
def test_an_unknown_condition_names_the_known(name: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        condition(name)
