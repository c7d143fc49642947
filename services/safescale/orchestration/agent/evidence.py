"""The agent's rules on evidence: when it is thin, which passages are kept, which query comes next. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from safescale.orchestration.agent.citations import keep_valid
from safescale.orchestration.agent.text import clip, one_line, sentences, terms

MIN_BEARING = 2
"""Passages that must bear on an option for its evidence not to be thin."""

QUESTION_TERMS = 2
"""Terms of the question that a passage needs to bear on an option of it."""

MAX_PASSAGES = 4
"""Passages kept for an option."""

MAX_ROUNDS = 2
"""Searches for an option; the second only when the evidence is thin after the first."""

QUERY_CHARS = 300
ADDED_TERMS = 16
REFINED_TERMS = 14
SENTENCE_CHARS = 320

_CONTRAST = re.compile(
    r"\b(?:not(?! only)|no(?! further)|never|nor|without|unlike|rather than|instead of|absent|absence|lacks?|"
    r"excludes?|excluded|however|but|contraindicated|avoid(?:ed)?|unlikely|less likely|rarely|uncommon|against|"
    r"inappropriate|unnecessary|unsafe)\b",
    re.IGNORECASE,
)
"""Words that turn a statement against something; they distinguish contradicting from supporting sentences."""


@dataclass(frozen=True, slots=True)
class Focus:
    """What a module looks for: key terms of its option, and key terms of the question and its concepts."""

    option: frozenset[str]
    question: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        """All terms."""
        return self.option | self.question


def focus(question_text: str, option_text: str, concepts: Sequence[str]) -> Focus:
    """Focus of an option; terms of the option are not counted again as terms of the question."""
    option = frozenset(terms(option_text))
    return Focus(option, frozenset(terms(" ".join([question_text, *concepts]))) - option)


def bears(text: str, on: Focus) -> bool:
    """Whether a passage bears on an option: a third of the option's terms and two of the question's (all, if fewer).

    An option without key terms ("None of the above") is borne on by terms of the question alone, of which it then needs
    at least one.
    """
    found = set(terms(text))
    in_question = len(on.question & found)
    if not on.option:
        return in_question >= max(1, min(QUESTION_TERMS, len(on.question)))
    return 3 * len(on.option & found) >= len(on.option) and in_question >= min(QUESTION_TERMS, len(on.question))


def is_thin(texts: Sequence[str], on: Focus) -> bool:
    """Whether the evidence is thin: fewer than two passages bear on the option."""
    return sum(bears(text, on) for text in texts) < MIN_BEARING


def rank(texts: Sequence[str], on: Focus) -> list[int]:
    """Return the indices of the passages to keep, best first: those on the option, then by terms, then as given."""

    def merit(index: int) -> tuple[bool, int, int]:
        found = set(terms(texts[index]))
        return (not bears(texts[index], on), -(2 * len(on.option & found) + len(on.question & found)), index)

    return sorted(range(len(texts)), key=merit)[:MAX_PASSAGES]


def first_query(question_text: str, option_text: str, objective: str, concepts: Sequence[str]) -> str:
    """Query of the first round: the option, the concepts, and the terms that objective and question add to them."""
    head = one_line(" ".join([option_text, *concepts]))
    known = set(terms(head))
    added = [term for term in terms(f"{objective} {question_text}") if term not in known]
    return clip(" ".join([head, *added[:ADDED_TERMS]]), QUERY_CHARS)


def refined_query(question_text: str, option_text: str, asked: Sequence[str], texts: Sequence[str]) -> str:
    """Query of a further round without a model: the option's terms, then the question's terms not found so far.

    Never one that was asked before.
    """
    found = set(terms(" ".join(texts)))
    option = terms(option_text)
    missing = [term for term in terms(question_text) if term not in found and term not in option]
    candidates = (
        " ".join([*option, *missing][:REFINED_TERMS]),
        one_line(option_text),
        one_line(question_text),
        one_line(f"{option_text} {question_text}"),
    )
    before = {query.lower() for query in asked}
    usable = [query for candidate in candidates if (query := clip(candidate, QUERY_CHARS))]
    return next((query for query in usable if query.lower() not in before), usable[-1])


@dataclass(frozen=True, slots=True)
class Extract:
    """Sentences taken from the passages, each with its citation; empty where there is none."""

    supporting: str
    contradicting: str


def extract(passages: Sequence[tuple[int, str]], on: Focus) -> Extract:
    """Return the best sentence for each side from the (number, text) passages, as `sentence [n]`.

    A sentence counts when it ends as one (a title does not), has a term of the option (of the question, where the
    option has none), and is from a passage with two terms of the question (all, if fewer). The best has most terms,
    those of the option counted twice; the first among equals. Words of contrast make it a contradicting one.
    """
    best: dict[bool, tuple[int, str]] = {}
    for number, text in passages:
        if len(on.question & set(terms(text))) < min(QUESTION_TERMS, len(on.question)):
            continue
        for sentence in sentences(text):
            found = set(terms(sentence))
            if sentence[-1] not in ".!?" or not (on.option or on.question) & found:
                continue
            against = _CONTRAST.search(sentence) is not None
            merit = 2 * len(on.option & found) + len(on.question & found)
            if against not in best or merit > best[against][0]:
                # References of the article itself would read as citations of our passages.
                quoted = clip(keep_valid(sentence, ())[0], SENTENCE_CHARS).rstrip(".!?")
                best[against] = (merit, f"{quoted} [{number}].")
    return Extract(*(best[side][1] if side in best else "" for side in (False, True)))
