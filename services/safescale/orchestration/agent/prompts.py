"""What the agent's model is asked. Short, for models that read slowly and write little. Pure.

A change here is a change of `AGENT_VERSION`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safescale.core.safety.prompts import neutralise_control_tokens
from safescale.orchestration.agent.citations import keep_valid
from safescale.orchestration.agent.text import clip, excerpt

SYSTEM = "You are a radiology research assistant. You answer briefly, and only from what you are given."

QUESTION_CHARS = 700
OPTION_CHARS = 200
EXCERPT_CHARS = 300
SUMMARY_CHARS = 120

CONCEPT_TOKENS = 40
PLAN_TOKENS_PER_OPTION = 16
PLAN_TOKENS_LIMIT = 200
QUERY_TOKENS = 24
SECTION_TOKENS = 72
CONCLUSION_TOKENS = 80


@dataclass(frozen=True, slots=True)
class Prompt:
    """A user message and the bound on the tokens written for it."""

    user: str
    max_new_tokens: int


def _safe(text: str, limit: int) -> str:
    return neutralise_control_tokens(clip(text, limit))


def concepts_prompt(question_text: str) -> Prompt:
    """Asks for the key diagnostic concepts."""
    user = (
        f"Question: {_safe(question_text, QUESTION_CHARS)}\n\n"
        "List the key diagnostic concepts of this question, separated by commas.\nConcepts:"
    )
    return Prompt(user, CONCEPT_TOKENS)


def plan_prompt(question_text: str, options: Mapping[str, str], concepts: Sequence[str]) -> Prompt:
    """Asks for what to find out about each option, all options at once."""
    lines = "\n".join(f"{letter}. {_safe(text, OPTION_CHARS)}" for letter, text in sorted(options.items()))
    user = (
        f"Question: {_safe(question_text, QUESTION_CHARS)}\nConcepts: {_safe(', '.join(concepts), OPTION_CHARS)}\n"
        f"Options:\n{lines}\n\n"
        "For each option, write one line: its letter, a colon, and what to look up to judge it.\nPlan:"
    )
    return Prompt(user, min(PLAN_TOKENS_LIMIT, PLAN_TOKENS_PER_OPTION * len(options)))


def refine_prompt(question_text: str, option_text: str, asked: Sequence[str]) -> Prompt:
    """Asks for a better query where the evidence is thin."""
    user = (
        f"Question: {_safe(question_text, QUESTION_CHARS)}\nOption: {_safe(option_text, OPTION_CHARS)}\n"
        f"This search found too little: {_safe(asked[-1], OPTION_CHARS)}\n\n"
        "Write one other search query with different words, at most ten words.\nQuery:"
    )
    return Prompt(user, QUERY_TOKENS)


@dataclass(frozen=True, slots=True)
class OptionUnderReview:
    """The option that a section is about."""

    letter: str
    text: str
    wanted: frozenset[str]


def section_prompt(question_text: str, option: OptionUnderReview, passages: Sequence[tuple[int, str]]) -> Prompt:
    """Asks for supporting and contradicting evidence from the (number, text) passages, at least one."""
    # References of the article itself would read as citations of our passages.
    shown = "\n".join(
        f"[{number}] {neutralise_control_tokens(keep_valid(excerpt(text, option.wanted, EXCERPT_CHARS), ())[0])}"
        for number, text in passages
    )
    user = (
        f"Passages:\n{shown}\n\nQuestion: {_safe(question_text, QUESTION_CHARS)}\n"
        f"Option {option.letter}: {_safe(option.text, OPTION_CHARS)}\n\n"
        f"From these passages alone, write one line 'Supporting:' and one line 'Contradicting:' on option "
        f"{option.letter}. Cite passages by number, such as [{passages[0][0]}]."
    )
    return Prompt(user, SECTION_TOKENS)


@dataclass(frozen=True, slots=True)
class Section:
    """What was found on one option."""

    letter: str
    option: str
    supporting: str
    contradicting: str


def conclusion_prompt(question_text: str, sections: Sequence[Section]) -> Prompt:
    """Asks for a conclusion from the sections."""
    lines = "\n".join(
        f"{section.letter}. {_safe(section.option, OPTION_CHARS)} For: {_safe(section.supporting, SUMMARY_CHARS)} "
        f"Against: {_safe(section.contradicting, SUMMARY_CHARS)}"
        for section in sections
    )
    user = (
        f"Question: {_safe(question_text, QUESTION_CHARS)}\nEvidence on each option:\n{lines}\n\n"
        "Write a conclusion of two sentences: which options the evidence supports, and which it speaks against.\n"
        "Conclusion:"
    )
    return Prompt(user, CONCLUSION_TOKENS)
