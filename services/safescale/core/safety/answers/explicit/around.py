"""Judge the words around a letter: whether they leave it a selection, and whether they put it in doubt."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from safescale.core.safety.answers.explicit import words
from safescale.core.safety.answers.explicit.text import MARK, Plain, plain_option

WINDOW = 240
"""Characters on each side of a letter that are examined."""

_SENTENCE = re.compile(r"[.!?;]\s|\n")
_CLAUSE = re.compile(r", | [–-] ")
_LIST_BEFORE = re.compile(
    r"(?<![\w'-])[A-Z][)\]]?(?: ?[,/&+]| and| or| und| oder| et| ou| y| o) ?(?:option )?[(\"'\[]?$"
)
_ALTERNATIVE = re.compile(
    r"(?:[\s(]*\d{1,3} ?%\)?(?=[,;/]))?[\s,;.(]*"
    r"(?:[/,&+]|or|and|und|oder|ou|et|y|o|e|u|versus|vs\.?)[\s,]*(?:also |option |choice "
    r"|answer )?[(\"'\[]?[A-Z](?![\w'-])",
)
_OTHER_EXCLUDED = re.compile(
    r",? ?(?:and |but |und |et |y )?(?:not|nicht|pas|no|rather than"
    r"|instead of) (?:option )?[(\"']?([A-Z])(?![\w'-])[)\"']?"
)
_DENIED = re.compile(
    r"[\s.,:;)]*(?:this|that|it|which|das|dies|ceci|cela|esto|eso)(?: (?:option|choice|answer|one))?"
    r"(?:n't| (?:is|was|would be|can|ist|est|es|n'est)(?: \w{2,12}ly)?) ?(?:not|never|incorrect|wrong|false"
    r"|unlikely|nicht|falsch|pas|faux|incorrecto|falso)\b",
    re.IGNORECASE,
)
"""After a letter: what says that it is not the answer after all."""

_CONTRADICTED = re.compile(
    r"^[^.!?]{0,40}\b(?:which|but)\b[^.!?]{0,60}\b(?:contradict|inconsistent|disagree|dispute|wrong|incorrect"
    r"|not correct|false)"
    r"|^[^.!?\n]{0,120}(?:, (?:otherwise|else|sonst|sinon) |\b(?:unless|es sei denn|à moins|a menos que)\b)",
    re.IGNORECASE,
)
_TOLD_BY = re.compile(
    r"^[^.!?\n]{0,20}\b(?:said|says?|claims?|claimed|wrote|thinks?|thought|suggests?|suggested|sagte?|meinte?"
    r"|behauptete?|dit|affirme|dice|dijo|afirma)"
    r" (?:the|a|an|some|my|many|most|one|another|der|die|das|ein|eine|mein|meine|le|la|les|un|une|mon|ma|el|mi)\b",
    re.IGNORECASE,
)
"""After a letter: who it is that says so."""

_NAMED_AFTER = re.compile(rf"[^\w\s]?[ )]*[(:,.=–-]? ?[\"'(]?(?:the |an? )?({MARK})(.*)", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_BOUNDARY = re.compile(rf"[.!;](?=\s|$)|\n|:| [–-] |{MARK}|(?<![\w'-])(?:{words.BECAUSE})(?![\w-])", re.IGNORECASE)
_BECAUSE = re.compile(rf"(?:{words.BECAUSE})(?![\w-])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LetterPlace:
    """A letter that may be given as the answer: how it is written, and where.

    `start` is where the words that give it begin, `begin` where the letter does, `end` where what is said of it ends.
    `told` is whether a word beside the answer's name makes it another's answer, or none.
    """

    kind: str
    letter: str
    lower: bool
    enclosed: bool
    closed: bool
    joined: str
    words: str
    start: int
    begin: int
    end: int
    told: bool = False


def is_selection(place: LetterPlace, form: Plain, options: Mapping[str, str]) -> bool:
    """Return whether a letter is one: what follows it is no more of a word, a name or a term."""
    after = _after(place, form)
    if place.lower and not _lower_counts(place, after, form):
        return False
    if place.kind in {"right", "own", "so"}:
        # `C est` may be `c'est`, whose apostrophe was lost.
        return not (place.kind == "right" and place.letter == "C" and form.text[place.begin + 1 :].startswith(" est "))
    return _follows(place, after, form, options)


def _after(place: LetterPlace, form: Plain) -> str:
    return form.text[place.end : place.end + WINDOW].partition("\n")[0]


def _lower_counts(place: LetterPlace, after: str, form: Plain) -> bool:
    """Whether a small letter is meant as one: in brackets, after a label, at the end, or before its own option."""
    if place.enclosed:
        return True
    ends = after.strip(" .!") == ""
    own = re.match(rf"[.:]? ?({MARK})", after)
    if own and (place.closed or after[:1] in {".", ":"}) and place.letter in form.letters.get(own[1], ()):
        return True
    if place.kind == "label":
        return ends and (place.joined[-1:] in {":", "="} or (place.letter not in "AEIOUY" and bool(after.strip())))
    return (
        place.kind == "entry"
        and form.text.strip(" .!)").lower() == place.letter.lower()
        and place.letter not in "AEIOUY"
    )


def _follows(place: LetterPlace, after: str, form: Plain, options: Mapping[str, str]) -> bool:
    """Whether the text right after a letter can follow a selection."""
    rest = after.lstrip(" ")
    if re.fullmatch(rf"[^\w{MARK[1:-1]}]*", rest) or re.match(rf"[^\w\s]?[ )]*[(:,.=–-]? ?\"?{MARK}", rest):
        return True
    own = plain_option(place.letter, options.get(place.letter, "")).lower()
    told = _bare(rest)
    marked = not rest[0].isalnum() or place.closed
    if told and (own == told or ((marked or " " in told) and own.startswith(told + " "))):
        return True
    if rest[0] in ")]:":
        return not (place.kind == "entry" and place.letter == "A" and rest[0] == ":")
    if rest[0] in ",;!?/&(=>":
        return place.kind != "entry" or rest[0] == "/" or (rest[0] == "," and not _article(rest[1:].lstrip(" ")))
    if place.enclosed:
        return True
    if rest[0] == "." and (len(rest) == 1 or rest[1] == " "):
        return _sentence_follows(place, rest[1:].strip(), form, options)
    if rest[0] in "–-":
        return place.kind != "entry" or _sentence_follows(place, rest[1:].strip(), form, options)
    if _ALTERNATIVE.match(rest):
        return True
    return after.startswith(" ") and _is_because(rest) and not (place.kind == "entry" and _article(rest))


def _is_because(rest: str) -> bool:
    return _BECAUSE.match(rest.lstrip(" ")) is not None


def _article(rest: str) -> bool:
    """Whether a word begins what may as well follow an article or a name: only a reason is no such word."""
    return re.match(r"(?:because|since|weil|denn|parce|puisque|porque|car)\b", rest) is None


def _sentence_follows(place: LetterPlace, rest: str, form: Plain, options: Mapping[str, str]) -> bool:
    """Whether a sentence of its own, or the letter's option in other words, stands after a letter and its dot."""
    word = _WORD.match(rest.lstrip("\"'("))
    if word is None:
        return place.kind != "entry"
    first = word[0].lower()
    if first in words.SPECIES:
        return False
    sentence = _SENTENCE.split(rest.lower(), maxsplit=1)[0]
    named = [place.letter in form.letters.get(mark, ()) for mark in re.findall(MARK, sentence)]
    if place.kind == "entry" and named:
        return any(named)
    if first in words.OPENERS:
        return True
    if not word[0][0].isupper():
        return False
    told = set(_WORD.findall(sentence))
    shared = {letter: len(_content(letter, options) & told) for letter in options}
    own = shared.pop(place.letter, 0)
    if own < max(shared.values(), default=0):
        return False
    return own > 0 or (place.kind != "entry" and len(told) > 3)


def _content(letter: str, options: Mapping[str, str]) -> set[str]:
    """Return the words of an option that say what it is about."""
    return {word for word in _WORD.findall(plain_option(letter, options[letter]).lower()) if len(word) > 3}


def in_doubt(place: LetterPlace, form: Plain) -> bool:
    """Return whether the words around a selection hedge, negate, condition or contradict it."""
    before, after = _before(place, form), _after(place, form)
    if words.CONDITIONAL.search(before) or words.DOUBTED_FIRST.match(before) or _LIST_BEFORE.search(before):
        return True
    clause = before
    for comma in _CLAUSE.finditer(before):
        clause = before[comma.end() :] if comma.end() <= len(before) - 1 else clause
    if words.DOUBTED.search(words.MOST_LIKELY.sub("", clause)):
        return True
    if (
        _names_another(place, after, form)
        or _ALTERNATIVE.match(after)
        or _DENIED.match(after)
        or _CONTRADICTED.search(after)
        or _TOLD_BY.search(after)
    ):
        return True
    for excluded in _OTHER_EXCLUDED.finditer(after):
        if excluded[1] != place.letter:
            after = after[: excluded.start()] + after[excluded.end() :]
            break
    told = after.lstrip(" )]:.,–-") if after[:1] in {")", "]", ":"} else after
    boundary = _BOUNDARY.search(told)
    return words.DOUBTED_AFTER.search(told[: boundary.start()] if boundary else told) is not None or _asks(told)


def _before(place: LetterPlace, form: Plain) -> str:
    """Return the sentence before a letter; a line that ends in a colon goes on in the next."""
    window = form.text[max(0, place.begin - WINDOW) : place.begin]
    line = window.rfind("\n") + 1
    head = window[:line].rstrip("\n ")
    if line and head.endswith(":"):
        window, line = head[head.rfind("\n") + 1 :] + " " + window[line:], 0
    sentence = window[line:]
    for end in _SENTENCE.finditer(sentence):
        window = sentence[end.end() :]
    return window if _SENTENCE.search(sentence) else sentence


def _asks(told: str) -> bool:
    sentence = re.search(r"[.!?](?=\s|$)", told)
    return sentence is not None and sentence[0] == "?"


def _names_another(place: LetterPlace, after: str, form: Plain) -> bool:
    """Whether the words right after the letter are another option's."""
    if after.strip(" .:)") == "":
        below = form.text[place.end : place.end + WINDOW].partition("\n")[2].strip(" \n.").partition("\n")[0]
        return len(below) == 1 and below in form.letters and place.letter not in form.letters[below]
    follows = _NAMED_AFTER.match(after)
    if follows:
        if place.letter not in form.letters.get(follows[1], ()):
            return True
        return re.match(r"[\s,;]*(?:or|and|und|oder|ou|et|y|o)?[\s,]*[(\[]?[A-Z][).:\]]", follows[2]) is not None
    return False


def _bare(rest: str) -> str:
    return re.sub(r"^[\W_]+|[\W_]+$", "", rest).lower()
