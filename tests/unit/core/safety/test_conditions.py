import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.safety.builders import AgentReport, BenchmarkField, MaxContext, NoContext, Padded, TopK
from safescale.core.safety.conditions import (
    CONDITION_IDS,
    CONDITIONS,
    PAIRS,
    condition,
)


def test_the_table_is_the_papers() -> None:
    assert [(row.id, row.builder) for row in CONDITIONS] == [
        ("zero_shot", NoContext()),
        ("evidence_clean", BenchmarkField("evidence_clean")),
        ("evidence_conflict", BenchmarkField("evidence_conflict")),
        ("top_1", TopK(1)),
        ("top_5", TopK(5)),
        ("top_10", TopK(10)),
        ("padded_top_1", Padded(10)),
        ("deep_research", AgentReport()),
        ("context_32k", MaxContext(30_000, min_window_tokens=32_768)),
        ("context_100k", MaxContext(96_000, min_window_tokens=102_400)),
        ("context_max", MaxContext()),
    ]


def test_every_pair_is_of_two_conditions_and_listed_once() -> None:
    assert len(PAIRS) == len(set(PAIRS))
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
