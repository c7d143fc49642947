"""Reads the model's texts. What cannot be used is None (or left out), never guessed. Pure."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from safescale.orchestration.agent.citations import cited, keep_valid
from safescale.orchestration.agent.text import complete_sentences, one_line, terms, words

MAX_CONCEPTS = 6
MAX_CONCEPT_WORDS = 6
MIN_QUERY_WORDS = 2
MAX_QUERY_WORDS = 16
MIN_OBJECTIVE_WORDS = 3
MIN_CONCLUSION_WORDS = 5
GROUNDED_TERMS = 2
"""Key terms that a text must have from what it was written from."""

_LABEL = re.compile(r"^\W*(?:key\s+|diagnostic\s+|search\s+)*(?:concepts?|query|conclusion)\s*:\s*", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•·]|\(?\d{1,2}[.)])\s*")
_PLAN_LINE = re.compile(r"^\W*(?:option\s+)?([A-Z])\s*[.:)\]–-]+\s*(.+)$", re.IGNORECASE)
_SUPPORTING = re.compile(
    r"support\w*(?:\s+evidence)?[\s*_]{0,3}:[\s*_]{0,3}(.*?)(?=contradict|$)", re.IGNORECASE | re.DOTALL
)
_CONTRADICTING = re.compile(
    r"contradict\w*(?:\s+evidence)?[\s*_]{0,3}:[\s*_]{0,3}(.*?)(?=\bsupport\w*(?:\s+evidence)?\W{0,3}:|$)",
    re.IGNORECASE | re.DOTALL,
)
_SIDE_NAME = re.compile(r"^(?:supporting|contradicting)\b[\s:*_]*", re.IGNORECASE)
_NOTHING = re.compile(r"^\W*(?:none|nothing|no)\b[^.\[\]]{0,60}\.?\W*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """A text of the model; `cut` when it ended at the bound on its tokens."""

    text: str
    cut: bool


def is_grounded(text: str, source: Collection[str]) -> bool:
    """Whether at least two key terms of a text, and half of them, are terms of what it was written from."""
    found = set(terms(text))
    known = found & set(source)
    return len(known) >= GROUNDED_TERMS and 2 * len(known) >= len(found)


def read_concepts(written: GeneratedText, question_text: str) -> list[str] | None:
    """Read concepts from a list with commas or lines: at most six, each of at most six words, none twice.

    A concept ends at a colon, what follows explains it. None when no concept is left, or when not one has a key term of
    the question.
    """
    lines = [line for line in _LABEL.sub("", written.text).splitlines() if line.strip() and not line.endswith(":")]
    items = lines if len(lines) > 1 else re.split(r"[,;]", " ".join(lines))
    if written.cut and len(items) > 1 and ":" not in items[-1]:
        items.pop()
    items = [one_line(_BULLET.sub("", item).split(":")[0]).strip(" .*\"'") for item in items]
    kept: dict[str, str] = {}
    for item in items:
        if terms(item) and len(words(item)) <= MAX_CONCEPT_WORDS:
            kept.setdefault(item.lower(), item)
    found = list(kept.values())[:MAX_CONCEPTS]
    asked = set(terms(question_text))
    return found if any(asked & set(terms(item)) for item in found) else None


def read_plan(written: GeneratedText, options: Mapping[str, str]) -> dict[str, str]:
    """Objectives by letter; letters without a usable line are left out.

    A line is usable when it has at least three words and says more than any option's text does; a letter's first such
    line counts.
    """
    lines = written.text.splitlines()
    if written.cut and len(lines) > 1:
        lines.pop()
    found: dict[str, str] = {}
    for line in lines:
        match = _PLAN_LINE.match(line)
        if match is None:
            continue
        letter, objective = match.group(1).upper(), one_line(match.group(2)).strip("*\"' ")
        if letter not in options or letter in found or len(words(objective)) < MIN_OBJECTIVE_WORDS:
            continue
        if all(set(terms(objective)) - set(terms(option)) for option in options.values()):
            found[letter] = objective
    return found


def read_query(written: GeneratedText, asked: Sequence[str], about: Collection[str]) -> str | None:
    """Read the first line as a new query: complete, of 2 to 16 words, with a key term of its subject; else None."""
    lines = [line for line in _LABEL.sub("", written.text).splitlines() if line.strip()]
    if not lines or (written.cut and len(lines) == 1):
        return None
    query = one_line(_LABEL.sub("", _BULLET.sub("", lines[0]))).strip("\"'` ")
    before = {tuple(words(other)) for other in asked}
    usable = (
        MIN_QUERY_WORDS <= len(words(query)) <= MAX_QUERY_WORDS
        and tuple(words(query)) not in before
        and bool(set(terms(query)) & set(about))
    )
    return query if usable else None


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a section. `text` is None when it cannot be used, empty when the model says that there is nothing."""

    text: str | None
    removed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """What a section is written from: passages by citation number, and key terms of question and option."""

    passages: Mapping[int, str]
    asked: frozenset[str]


def _read_side(found: re.Match[str] | None, cut: bool, sources: Sources) -> Side:
    """Read a side with its valid citations; usable when it cites a passage and is grounded in those it cites."""
    if found is None:
        return Side(None)
    raw = _SIDE_NAME.sub("", found.group(1))
    if _NOTHING.match(raw):
        return Side("")
    text, removed = keep_valid(complete_sentences(raw) if cut else raw, sources.passages.keys())
    numbers = cited(text)
    in_passages = set(terms(" ".join(sources.passages[number] for number in numbers)))
    said = " ".join(word for word in words(text) if not word.isdigit())
    usable = bool(in_passages & set(terms(said))) and is_grounded(said, in_passages | sources.asked)
    return Side(text if usable else None, removed)


def read_section(written: GeneratedText, sources: Sources) -> tuple[Side, Side]:
    """Supporting and contradicting side of a section."""
    supporting = _SUPPORTING.search(written.text)
    contradicting = _CONTRADICTING.search(written.text)
    return (
        _read_side(supporting, written.cut and contradicting is None, sources),
        _read_side(contradicting, written.cut, sources),
    )


def read_conclusion(written: GeneratedText, valid: Collection[int], source: Collection[str]) -> Side:
    """Read the conclusion on one line: at least five words, grounded in the terms of its sources."""
    raw = _LABEL.sub("", written.text)
    text, removed = keep_valid(complete_sentences(raw) if written.cut else raw, valid)
    usable = len(words(text)) >= MIN_CONCLUSION_WORDS and is_grounded(text, source)
    return Side(text if usable else None, removed)
