"""Text from elsewhere as a reader can see it: what shows nothing, or steers what shows it, is written out.

Ids, names and answers come from files, model servers and other people's records. A control character in one of them can
end a renderer, move a terminal's cursor or turn a line around; written as an escape it does neither, and is seen.
"""

import re

_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters; \t, \n and \r are handled below
    "\u200b\u2060-\u206f\ufeff"  # of no width; isolates among them, which turn text around
    "\u2028-\u202e"  # line and paragraph separators, embeddings and overrides
    "\ufff9-\ufffb\U000e0000-\U000e007f"  # annotations and tags
    "\ud800-\udfff"  # halves of surrogate pairs
    "\ufdd0-\ufdef\ufffe\uffff"  # noncharacters, also those of each further plane
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]|\r(?!\n)"
)
_BREAKS = re.compile("[\t\n\r]")


def visible(text: str) -> str:
    r"""Return the text with what no reader can see as escapes, such as `\x1b` or `\u202e`; line ends and tabs stay."""
    return text if text.isascii() and text.isprintable() else _UNSEEN.sub(_escape, text)


def visible_line(text: str) -> str:
    """Return the text as `visible` does, line ends and tabs escaped too: it takes one line anywhere."""
    return _BREAKS.sub(_escape, visible(text))


def unseen(text: str) -> str | None:
    """Return the first character that `visible` escapes, as its code point such as `U+000B`; None where none is."""
    found = _UNSEEN.search(text)
    return None if found is None else f"U+{ord(found.group()[0]):04X}"


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()
