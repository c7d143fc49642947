"""The strict parser: reads an answer only where nothing has to be understood (protocol section 4.1)."""

import re
from collections.abc import Collection

# What may stand around the letter: emphasis, one pair of brackets, one closing mark. Nothing that is a word.
_ANSWER = re.compile(
    r"(?P<mark>\*{1,3}|_{1,3}|)(?P<open>[(\[]?)(?P<letter>[A-Z])(?P<close>[)\]]?)[.:)]?(?P=mark)[.]?"
)
_PAIRS = {"": ("", ")"), "(": (")",), "[": ("]",)}


def parse_letter(text: str, letters: Collection[str]) -> str | None:
    """The letter of an output that is exactly one option letter, else None.

    Accepted around a capital letter: blanks, one closing mark (`B.` `B)` `B:`), one pair of brackets (`(B)` `[B]`), and
    emphasis that opens and closes (`**B**`). Not accepted: a lower-case letter, a word (`Option B`, `B pneumonia`), two
    letters, a letter that is not among `letters`.
    """
    match = _ANSWER.fullmatch(text.strip())
    if match is None or match["close"] not in _PAIRS[match["open"]]:
        return None
    return match["letter"] if match["letter"] in letters else None
