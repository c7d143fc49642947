"""Citations in square brackets: which passages a text cites, and removal of those that do not exist. Pure."""

import re
from collections.abc import Collection

from safescale.orchestration.agent.text import one_line

_CITATION = re.compile(r"\[\s*(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\s*\]")
_AFTER_STOP = re.compile(r"([.!?])[ \t]*((?:\[[\d, ]+\][ \t]*)+)(?=\s|$)", re.MULTILINE)
_REPEATED = re.compile(r"(\[[\d, ]+\])(?:\s*\1)+")
_SPACE_BEFORE_STOP = re.compile(r"\s+(?=[.,;!?])")


def cited(text: str) -> tuple[int, ...]:
    """Numbers cited, in order of first appearance."""
    found = [int(number) for group in _CITATION.findall(text) for number in re.findall(r"\d+", group)]
    return tuple(dict.fromkeys(found))


def keep_valid(text: str, valid: Collection[int]) -> tuple[str, tuple[int, ...]]:
    """Return the text without citations of numbers that are not valid, and the numbers removed.

    What stays is written `[1]` or `[1, 2]`, once where it is repeated at once, before the full stop that it followed; a
    citation that begins a line belongs to that line. The text comes back on one line.
    """
    removed: list[int] = []

    def rewrite(match: re.Match[str]) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", match.group(1))]
        removed.extend(number for number in numbers if number not in valid)
        kept = dict.fromkeys(str(number) for number in numbers if number in valid)
        return f"[{', '.join(kept)}]" if kept else ""

    rewritten = _CITATION.sub(rewrite, text)
    moved = _AFTER_STOP.sub(lambda match: f" {match.group(2).strip()}{match.group(1)} ", rewritten)
    return _SPACE_BEFORE_STOP.sub("", _REPEATED.sub(r"\1", one_line(moved))), tuple(dict.fromkeys(removed))
