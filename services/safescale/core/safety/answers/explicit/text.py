"""Bring a model's text into one plain form: no markup, one spelling of letters and marks, options as single marks."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from safescale.core.safety.answers.replies import CLOSERS, OPENERS

FIRST_MARK = 0xE000
"""Code point of the mark that stands for the first option's text; private, so that no text has it."""

MAX_CHARACTERS = 131_072
"""Characters of a text that is read, four for each token that a run can allow; a longer one is left to others."""

MARK = "[\ue000-\ue0ff]"

BOX_END = "\ue100"
"""Stands where a box of TeX ends."""

_PRIVATE = re.compile("[\ue000-\uf8ff]")
# Bringing a long run of combining marks into their order takes the square of its length; no word needs 30.
_LONG_RUN = re.compile(r"([^\w\s\x00-\x7f]{30})[^\w\s\x00-\x7f]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_QUOTES = str.maketrans({**dict.fromkeys("’‘‚‛`´", "'"), **dict.fromkeys("“”„‟«»", '"'), "。": ".", "‐": "-", "‑": "-"})

_ANSWER_TAG = re.compile(
    r"<(/?)(?:final[ _-]?)?(?:answer|choice|option|response|antwort|réponse|respuesta)>", re.IGNORECASE
)
_BREAK_TAG = re.compile(
    r"</?(?:br|p|div|li|ul|ol)\s?/?>|<\|[\w ]{2,24}\|>|</?s>|<(?:end_of_turn|eos|pad)>", re.IGNORECASE
)
# Small letters alone: `<B>` is a letter in brackets.
_STYLE_TAG = re.compile(r"</?(?:b|i|u|em|strong|span|code|mark|sub|sup)>")
_CROSS = re.compile("[\u2717\u2718\u274c\u274e\u2716\U0001f6ab\u26d4\U0001f44e]")
_STRUCK = re.compile(r"~+(?= ?[A-Za-z](?![A-Za-z]))")
"""A letter that is struck out, `~~B~~`, or negated as logicians do."""
_TEX_STYLE = re.compile(r"\\(?:text|math)(?:bf|it|rm|sf|tt|normal)?\s?\{([^{}]{0,300})\}|\\(?:bf|rm|it)\b")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s?\{([^{}]{0,300})\}")
_TEX = re.compile(r"\\[()\[\],;!]|[$\\]")
_FENCE = re.compile(r"^[ \t]*```[A-Za-z]{0,10}[ \t]*$", re.MULTILINE)
_LINE_MARKS = re.compile(r"^(?:[ \t]*(?:[^\w\s()\[\]{}<>\"'$\\]+|>+|\d{1,2}[.)])(?=[ \t]|\*))?[ \t]*", re.MULTILINE)
_BLANKS = re.compile(r"[ \t\f\v_|~]+")
_NEW_LINES = re.compile(r"[ ]*(?:\r\n?|[\n\x85\u2028\u2029])[ ]*")


@dataclass(frozen=True, slots=True)
class Plain:
    """A text in its plain form.

    `text` has a mark of its own wherever it repeats an option; `letters` says which options have the text of a mark.
    """

    text: str
    letters: Mapping[str, frozenset[str]]


def plain(text: str, options: Mapping[str, str]) -> Plain | None:
    """Return the plain form of a text; None for one that is too long, and for a trace without an end."""
    answer = _after_trace(text) if len(text) <= MAX_CHARACTERS else None
    bare = None if answer is None else _without_markup(answer)
    if bare is None or len(bare) > MAX_CHARACTERS:
        return None
    by_text: dict[str, set[str]] = {}
    for letter, option in options.items():
        if option_text := plain_option(letter, option):
            by_text.setdefault(option_text.lower(), set()).add(letter)
    marks = {chr(FIRST_MARK + place): found for place, found in enumerate(sorted(by_text)[:256])}
    marked = _with_marks(bare, marks)
    return Plain(marked, {mark: frozenset(by_text[found]) for mark, found in marks.items()})


def plain_option(letter: str, option: str) -> str:
    """Return the text of an option in its plain form, on one line, without a label and a final dot."""
    flat = " ".join(_without_markup(option).split())
    return re.sub(rf"^\(?{re.escape(letter)}[).:] ", "", flat).rstrip(" .")


def _after_trace(text: str) -> str | None:
    """Return what follows the last trace; None where one has begun and not ended."""
    if "<" not in text:
        return text
    end = max((text.rfind(mark) + len(mark) for mark in CLOSERS if mark in text), default=0)
    rest = text[end:]
    return None if any(mark in rest for mark in OPENERS) else rest


def _without_markup(text: str) -> str:
    """Return a text without emphasis, headings, tags and TeX; answers that stand in a tag or a box are labelled so."""
    text = _PRIVATE.sub("\ufffd", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _LONG_RUN.sub(r"\1", text))
        text = _CROSS.sub(" not ", _INVISIBLE.sub("", text)).translate(_QUOTES)
    if "~" in text:
        text = _STRUCK.sub(" not ", text)
    if "<" in text:
        text = _ANSWER_TAG.sub(lambda tag: "\n" if tag[1] else "\nAnswer: ", text)
        text = _STYLE_TAG.sub("", _BREAK_TAG.sub("\n", text))
    if "\\" in text or "$" in text:
        text = _TEX_STYLE.sub(r" \1 ", _TEX_STYLE.sub(r" \1 ", text))
        text = _TEX.sub(" ", _BOXED.sub(rf" boxed: \1 {BOX_END} ", text))
    text = _LINE_MARKS.sub("", _FENCE.sub("", text)).replace("*", "").replace("`", "'")
    return _NEW_LINES.sub("\n", _BLANKS.sub(" ", text)).strip()


def _with_marks(text: str, marks: Mapping[str, str]) -> str:
    """Return a text with each option's words replaced by the option's mark, longer options first."""
    lower = _lower(text)
    taken: list[tuple[int, int, str]] = []
    for mark, words in sorted(marks.items(), key=lambda item: (-len(item[1]), item[1])):
        # An option that is one character is a letter or a number that other words have too.
        if len(words) < 2:
            continue
        begin = lower.find(words)
        if begin < 0:
            continue
        while begin >= 0:
            end = begin + len(words)
            if not (lower[max(0, begin - 1) : begin].isalnum() or lower[end : end + 1].isalnum()):
                taken.append((begin, end, mark))
                # What is taken is blanked, so that a shorter option within it is not found again.
                begin = lower.find(words, end)
            else:
                begin = lower.find(words, begin + 1)
        lower = _blanked(lower, [place for place in taken if place[2] == mark])
    if not taken:
        return text
    parts, after = [], 0
    for begin, end, mark in sorted(taken):
        parts += [text[after:begin], mark]
        after = end
    return "".join([*parts, text[after:]])


def _blanked(text: str, places: list[tuple[int, int, str]]) -> str:
    parts, after = [], 0
    for begin, end, _ in places:
        parts += [text[after:begin], "\0" * (end - begin)]
        after = end
    return "".join([*parts, text[after:]])


def _lower(text: str) -> str:
    """Return a text in lower case, of the same length."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)
