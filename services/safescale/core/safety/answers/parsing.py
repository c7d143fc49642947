"""The strict parser: reads an answer only where nothing has to be understood (protocol section 4.1)."""

import re
from collections.abc import Collection

# What may surround the letter: one pair of brackets, one closing mark, emphasis. Nothing that is a word.
_LETTER = r"(?:\([A-Z]\)|\[[A-Z]\]|[A-Z]\)?)[.:]?"
_ANSWER = re.compile(rf"{_LETTER}|(?P<mark>\*{{1,3}}|_{{1,3}}){_LETTER}(?P=mark)\.?")


def parse_letter(text: str, letters: Collection[str]) -> str | None:
    """Return the letter of an output that is exactly one option letter, else None.

    Accepted around a capital letter: blanks, one closing mark (`B.` `B)` `B:`), one pair of brackets (`(B)` `[B]`), and
    emphasis that opens and closes (`**B**`). Not accepted: a lower-case letter, a word (`Option B`, `B pneumonia`), two
    letters, a letter that is not among `letters`.
    """
    answer = text.strip()
    if _ANSWER.fullmatch(answer) is None:
        return None
    letter = answer.strip("*_()[].:")
    return letter if letter in letters else None
