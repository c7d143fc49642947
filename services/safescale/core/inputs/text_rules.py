"""Which characters and how many of them an id, a name, a title or a long text may have.

An id or a name is held to the stricter rule: it appears in tables, headings, file names and log lines. A long text may
break its lines and pages as it likes and may turn its direction; what shows it writes out what cannot be seen.
"""

import re

from safescale.core.inputs.text import unseen, visible_line

_BREAKS = re.compile(r"[\t\n\r]")
_SURROGATES = "\ud800-\udfff"
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
# Tab, line feed, vertical tab, form feed, carriage return and next line are how programs end lines and pages.
_NOT_IN_TEXTS = re.compile(f"[\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f{_SURROGATES}{_NONCHARACTERS}]")
_AROUND = 20

MAX_NAME = 256
"""Characters of an id or a name."""

MAX_QUESTION_BYTES = 64 * 1024
"""Bytes (UTF-8) of a question's text and of an option: a search takes no longer query."""

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Bytes (UTF-8) of an evidence text: no longer context is kept."""


def name_fault(text: str, max_characters: int = MAX_NAME) -> tuple[str, str] | None:
    """Find what is wrong with the characters or the length of an id or a name: what is there, and what was expected."""
    broken = _BREAKS.search(text)
    if broken:
        return _place(text, broken.start()), "a name in one line"
    return title_fault(text, max_characters)


def title_fault(text: str, max_characters: int) -> tuple[str, str] | None:
    """Find what is wrong with a title: as `name_fault`, but it may be broken into lines."""
    code = unseen(text.replace("\r", "\n"))
    if code is not None:
        return _place(text, text.index(chr(int(code.removeprefix("U+"), 16)))), "characters that can be seen"
    if len(text) > max_characters:
        return f"{len(text):,} characters", f"at most {max_characters:,} characters"
    return None


def text_fault(text: str, max_bytes: int = MAX_TEXT_BYTES) -> tuple[str, str] | None:
    """Find what is wrong with the characters or the size of a long text: what is there, and what was expected."""
    found = _NOT_IN_TEXTS.search(text)
    if found:
        return _place(text, found.start()), "a text without control characters"
    # A character has four bytes at most: most texts need no second copy.
    if len(text) * 4 > max_bytes and (size := len(text.encode())) > max_bytes:
        return f"{size:,} bytes", f"at most {max_bytes:,} bytes"
    return None


def _place(text: str, position: int) -> str:
    r"""`U+000B at character 6 of "chest\x0b1"`, with a little of what stands around it."""
    begin, end = max(position - _AROUND, 0), position + 1 + _AROUND
    around = ("…" if begin else "") + text[begin:end] + ("…" if end < len(text) else "")
    return f'U+{ord(text[position]):04X} at character {position + 1} of "{visible_line(around)}"'
