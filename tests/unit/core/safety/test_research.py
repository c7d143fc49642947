from dataclasses import replace

import pytest

from safescale.core.safety.research import ResearchSubject, research_id

SUBJECT = ResearchSubject("q1", "Which?", {"A": "one", "B": "two"}, "corpus", "model", "revision")


def test_the_order_of_options_does_not_count() -> None:
    assert research_id(SUBJECT) == research_id(replace(SUBJECT, options={"B": "two", "A": "one"}))


@pytest.mark.parametrize(
    "change",
    [
        {"question_id": "q2"},
        {"question_text": "Which one?"},
        {"options": {"A": "two", "B": "one"}},
        {"corpus_id": "other"},
        {"agent_model": "other"},
        {"agent_revision": "other"},
        {"agent_fingerprint": "another server"},
        {"run_id": "a run that has its own"},
    ],
)
def test_whatever_decides_the_report_changes_the_id(change: dict[str, object]) -> None:
    assert research_id(replace(SUBJECT, **change)) != research_id(SUBJECT)  # type: ignore[arg-type]


def test_the_agents_version_changes_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = research_id(SUBJECT)
    monkeypatch.setattr("safescale.core.safety.research.AGENT_VERSION", "another")
    assert research_id(SUBJECT) != before


def test_researches_of_the_first_version_are_found() -> None:
    assert research_id(SUBJECT) == "7496f13579189a816426af39c911b045cc64fd6b4e2f011381e2df51e6784e78"
