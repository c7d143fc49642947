"""Assembles the report: introduction, analysis of each option, conclusion, sources. Bounded in length. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safescale.orchestration.agent.citations import cited, keep_valid
from safescale.orchestration.agent.prompts import Section
from safescale.orchestration.agent.text import clip

REPORT_CHARS = 6000
"""Upper bound of a report, about 1,500 tokens."""

QUESTION_CHARS = 700
CONCEPT_CHARS = 300
CONCLUSION_CHARS = 700
SOURCE_CHARS = 1200
OPTION_CHARS = 200
TITLE_CHARS = 100
SOURCES_HEADING = "\n\nSources\n"
NO_SUPPORT = "No supporting evidence was found."
NO_CONTRADICTION = "No contradicting evidence was found."

_SOURCE_LINE = re.compile(r"^\[(\d+)\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report is made of; titles by citation number, `thin` the letters whose evidence stayed thin."""

    question: str
    concepts: Sequence[str]
    sections: Sequence[Section]
    thin: Sequence[str]
    titles: Mapping[int, str]


def plain_conclusion(findings: ReportContent) -> str:
    """Conclusion without a model: for which options there is cited evidence on either side, and where it is thin."""
    supported = [section.letter for section in findings.sections if cited(section.supporting)]
    contradicted = [section.letter for section in findings.sections if cited(section.contradicting)]
    parts = [
        f"Supporting evidence was found for {_letters(supported)}.",
        f"Contradicting evidence was found for {_letters(contradicted)}.",
    ]
    if findings.thin:
        parts.append(f"The evidence stayed thin for {_letters(findings.thin)}.")
    return " ".join(parts)


def _letters(letters: Sequence[str]) -> str:
    if not letters:
        return "no option"
    return f"option{'s' if len(letters) > 1 else ''} {', '.join(letters)}"


def introduction(findings: ReportContent) -> str:
    """Return the introduction: the question, its concepts and the number of passages."""
    count = len(findings.titles)
    return (
        f"This report reviews the literature on the question: {clip(findings.question, QUESTION_CHARS)} "
        f"Key concepts: {clip(', '.join(findings.concepts), CONCEPT_CHARS)}. "
        f"{count} passage{'' if count == 1 else 's'} of the corpus were reviewed for {len(findings.sections)} options."
    )


def assemble(findings: ReportContent, conclusion: str) -> str:
    """Return the report, at most 6,000 characters; it lists the sources that its text cites, and no other."""
    opening = f"Introduction\n{introduction(findings)}\n\nAnalysis\n"
    closing = f"\n\nConclusion\n{_clip_cited(conclusion, CONCLUSION_CHARS)}"
    room = REPORT_CHARS - SOURCE_CHARS - len(opening) - len(closing)
    each = room // max(1, len(findings.sections)) - 2
    analysis = "\n\n".join(_option_part(section, each) for section in findings.sections)
    body = opening + analysis + closing
    return body + _sources(cited(analysis + closing), findings.titles)


def source_numbers(report: str) -> tuple[int, ...]:
    """Citation numbers of the sources that a report lists."""
    _, heading, listed = report.rpartition(SOURCES_HEADING)
    return tuple(int(number) for number in _SOURCE_LINE.findall(listed)) if heading else ()


def _option_part(section: Section, limit: int) -> str:
    # A number in brackets within an option is no citation of ours.
    option = keep_valid(section.option, ())[0]
    head = f"{section.letter}. {clip(option, min(OPTION_CHARS, limit // 3))}"
    labels = ("\nSupporting: ", "\nContradicting: ")
    room = (limit - len(head) - sum(map(len, labels))) // 2
    sides = (_clip_cited(section.supporting, room), _clip_cited(section.contradicting, room))
    return head + "".join(label + side for label, side in zip(labels, sides, strict=True))


def _clip_cited(text: str, limit: int) -> str:
    """Clip a text and keep its first citation where it would be lost."""
    clipped = clip(text, limit)
    numbers = cited(text)
    if not numbers or cited(clipped):
        return clipped
    mark = f" [{numbers[0]}]"
    return clip(text, limit - len(mark)) + mark if limit > len(mark) + 2 else clipped


def _sources(numbers: Sequence[int], titles: Mapping[int, str]) -> str:
    listed = sorted(number for number in numbers if number in titles)
    if not listed:
        return ""
    width = min(TITLE_CHARS, (SOURCE_CHARS - len(SOURCES_HEADING)) // len(listed) - len("[9999] \n"))
    return SOURCES_HEADING + "\n".join(f"[{number}] {clip(titles[number], width)}".rstrip() for number in listed)
