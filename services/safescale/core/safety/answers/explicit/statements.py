"""Find what a plain text states: letters given as the answer, and whatever puts them in doubt."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from safescale.core.safety.answers.explicit import words
from safescale.core.safety.answers.explicit.around import WINDOW, LetterPlace, in_doubt, is_selection
from safescale.core.safety.answers.explicit.text import BOX_END, MARK, Plain

MOST_STATEMENTS = 64
"""Statements that are examined; a text with more repeats itself and is left to others."""

_OPEN = r"(?P<open>[(\[{<\"']{0,3}) ?"
_CLOSE = r"(?P<close>(?: ?[)\]}>\"']){0,3})"
LETTER = rf"{_OPEN}(?P<letter>[A-Za-z])(?![^\W_])(?!'[^\W\d_])(?![-–—−+°%/&][^\W_\s])(?!°){_CLOSE}"
_BETWEEN = rf"(?:(?:{words.BETWEEN})(?![\w-])[:,]? ?|l'){{0,4}}"
_LABEL = re.compile(
    rf"(?<![\w'-])(?:l')?(?P<noun>{words.NOUNS})(?![\w-])(?:\(s\))?[\"')\]]?(?: (?:[^\W_]{{2,20}}|a|à|\d))"
    rf"{{0,8}}?\"? ?(?P<join>(?:(?<!\w)(?:{words.VERBS})(?![\w-])|(?:=>|->|→"
    rf"|[:=–-]))[:=]? ?(?:{MARK} ?[,(:-]? ?)?){_BETWEEN}{LETTER}",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    rf"(?<![\w'-])(?:i|ich|je|yo|i'd|i'll|i'm|we|we'd|you should)(?: [^\W\d_]{{2,12}}){{0,3}}? (?:{words.CHOOSE})"
    rf"(?: that)? {_BETWEEN}{LETTER}|^(?:elijo|escojo|selecciono) {_BETWEEN}{LETTER.replace('?P<', '?P<x_')}",
    re.IGNORECASE | re.MULTILINE,
)
_RIGHT = re.compile(
    rf"(?:^|(?<=[.!?;:,] )|(?<![\w'-])(?:so|thus|therefore|hence|option|choice|answer|antwort|réponse|opción"
    rf"|respuesta|la)"
    rf" ){LETTER}(?:[.,:]? [(]?(?P<words>{MARK})[),]?)? (?:is|would be|must be|ist|est|es"
    rf"|sería)(?P<told>(?: (?:{words.ADVERBS}))? (?:{words.RIGHT})"
    rf"(?! (?:if|that|about))(?![\w-])(?: (?:answer|option|choice|one|antwort|réponse|respuesta|opción|diagnosis))?)",
    re.IGNORECASE | re.MULTILINE,
)
_INVERTED = re.compile(
    rf"(?<!\w)(?:ist|wäre|lautet) (?:(?:die|meine) )?(?:(?:richtige|korrekte|beste) )?(?:antwort|option|lösung"
    rf"|antwortoption)"
    rf" {LETTER}(?P<told> (?:(?:{words.ADVERBS}) )?(?:richtig|korrekt|zutreffend|die richtige|die korrekte)(?!\w)"
    rf"|(?=[.!]?$))",
    re.IGNORECASE | re.MULTILINE,
)
_RIGHT_BEFORE = re.compile(
    rf"(?:^|(?<=[.!?;:,] ))(?:richtig|korrekt|zutreffend|correct|it|it's|that leaves|this leaves|(?:this"
    rf"|that) (?:is|corresponds to|matches) option|definitely|clearly|c'est|es|therefore|thus|hence|so|also|daher|donc)"
    rf"(?: (?:ist|is|es))?[,:]? {_BETWEEN}{LETTER}(?=[.!]?$|[.!] (?-i:[^a-z]))",
    re.IGNORECASE | re.MULTILINE,
)
_ENTRY = re.compile(
    rf"^(?:(?P<named>option|choice|answer|antwort|réponse|opción|respuesta|alternativa) )?{LETTER}",
    re.MULTILINE | re.IGNORECASE,
)
_ANNOUNCES = re.compile(rf"(?<![\w'-])(?:{words.NOUNS})(?: (?:{words.VERBS}))?:$", re.IGNORECASE)
_OWN_BEFORE = re.compile(rf"^{MARK} ?(?:(?=[(\[])|[:=→] ?){LETTER}(?=[.!]?$)", re.MULTILINE)
_OTHER_NAMED = re.compile(
    rf"(?<![\w'-])(?:{words.NOUNS})(?![\w-])(?: [^\W\d_]{{2,20}}){{0,6}}? ?(?:(?<!\w)(?:{words.VERBS})(?![\w-])"
    rf"|[:=])[:=]? ?"
    rf"(?:the |an? )?[\"'(]?(?P<mark>{MARK})",
    re.IGNORECASE,
)
_WORD_BEFORE = re.compile(r"([^\W\d_][\w'-]*) (?:l')?\Z")
_OTHERS_AFTER = re.compile(r" (?:with|that (?:kills|harms|hurts|endangers)|in the (?:prompt|example|textbook|book))\b")
_WORD_AFTER = re.compile(r" ([^\W\d_][\w'-]*)")
_BOX_END = re.compile(rf" *{BOX_END} ?")
_LISTED = re.compile(rf"(?:^|(?<=\s))[(\[]?([A-Z])[)\].:][)\]]? ?{MARK}", re.MULTILINE)
_NEGATED = re.compile(
    r"\b(?:not|nor|never|except|excludes?|eliminates?|eliminated|(?:rule|rules|ruled) out|rejects?|rejected|isn't"
    r"|wasn't"
    r"|can't be|cannot be|nicht|kein|pas|sauf|excepto|salvo|no|no es|descart\w{1,5})"
    r"(?: (?:option|choice|answer|antwort|la|die|es|be))?"
    r" [(\"'\[]?(?P<after>[A-Z])(?![\w'-])"
    r"|(?<![\w'-])(?P<before>[A-Z])[)\"'\]]?(?: ?[:–-] ?| (?:is|was|are|would be|can be|ist|est|es"
    r"|n'est)(?: [^\W\d_]{2,12}ly)? | )"
    r"(?:also |clearly |therefore )?(?:not\b|isn't|can't|cannot|never\b|incorrect|wrong|false\b|unlikely|ruled out"
    r"|excluded"
    r"|eliminated|falsch|inkorrekt|nicht\b|pas\b|n'est|fausse|faux\b|incorrecta?\b|incorrecto|falsa|no es)"
)
_OTHER_THOUGHT = re.compile(
    r"(?:\b(?:[Aa]nswer|choose|chose|pick|select|go with|prefer) (?:option )?|(?:^|[.!?;:] )(?:[Oo]ption|[Cc]hoice"
    r"|[Aa]nswer) )[(]?(?P<chosen>[A-Z])"
    r"[)]?(?:[.!](?=\s|$)|$)"
    r"|(?:[,;]|\b(?:and|und|et|y)) [(]?(?P<other>[A-Z])[)]? (?:on|for|in|bei|chez|en|pour|para)\b"
    r"|[,;:] ?[(]?(?P<last>[A-Z])[)]?(?:[.!](?=\s|$)|$)"
    r"|\b(?:or|maybe|perhaps|possibly|possible|might|could|equally|either|both|rather|oder|vielleicht|ou|peut-être"
    r"|quizás?)"
    r"\b[^.\n]{0,30}? (?:option |choice |be )?[(\"']?(?P<after>[A-Z])(?=[)\"'.,;!]|$|\n| (?:is|was|could|would|may"
    r"|might|as|too|instead)\b)"
    r"|(?<![\w'-])(?P<before>[A-Z])[)\"']? (?:is|are|was|could|may|might|would|can|seems|ist|est|es)\b"
    r"(?:(?!\bnot\b)[^.\n]){0,30}?"
    r"\b(?:also|equally|possible|plausible|too|as well|better|correct|right|acceptable|reasonable|valid|likely"
    r"|richtig|möglich)\b",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Stated:
    """The letters that a text states, and whether anything puts them in doubt."""

    letters: frozenset[str] = frozenset()
    doubt: bool = False

    @property
    def is_one(self) -> bool:
        """Whether one letter is stated without doubt."""
        return len(self.letters) == 1 and not self.doubt


def stated(form: Plain, options: Mapping[str, str]) -> Stated:
    """Return what a text states."""
    letters: set[str] = set()
    doubt, first, count = False, len(form.text), 0
    for place in _places(form):
        count += 1
        if count > MOST_STATEMENTS:
            return Stated(frozenset(letters), doubt=True)
        if not is_selection(place, form, options):
            # `Answer: A deep …` is an article; of another letter it is not known what it is.
            doubt = doubt or (place.joined != "" and not place.lower and place.letter not in {"A", "I"})
            continue
        first = min(first, place.begin)
        letters.add(place.letter)
        doubt = (
            doubt
            or place.told
            or place.letter not in options
            or in_doubt(place, form)
            or not _is_own(place.words, place.letter, form)
        )
    if len(letters) == 1 and not doubt:
        doubt = _taken_back(form, next(iter(letters)), first)
    return Stated(frozenset(letters), doubt)


def _places(form: Plain) -> Iterator[LetterPlace]:
    """Yield the places where a letter may be given as the answer."""
    text = form.text
    given: set[int] = set()
    for kind, pattern in (
        ("label", _LABEL),
        ("chosen", _CHOSEN),
        ("right", _RIGHT),
        ("right", _INVERTED),
        ("so", _RIGHT_BEFORE),
    ):
        for match in pattern.finditer(text):
            place = replace(_place(kind, match), told=kind == "label" and _is_told(match))
            given.add(place.begin)
            yield place
    for match in _OWN_BEFORE.finditer(text):
        if _is_own(text[match.start()], match["letter"].upper(), form):
            yield _place("own", match)
    yield from _entries(form, given)


def _place(kind: str, match: re.Match[str]) -> LetterPlace:
    x = "x_" if kind == "chosen" and match["letter"] is None else ""
    told = match.end("told") if kind == "right" else match.end(f"{x}close")
    boxed = _BOX_END.match(match.string, told)
    opened, closed = match[f"{x}open"], match[f"{x}close"]
    return LetterPlace(
        kind=kind,
        letter=match[f"{x}letter"].upper(),
        lower=match[f"{x}letter"].islower(),
        enclosed=(bool(opened.strip("\"'")) and bool(closed.strip(" \"'"))) or boxed is not None,
        closed=")" in closed,
        joined=match["join"].strip() if kind == "label" else "",
        words=match.groupdict().get("words") or "",
        start=match.start(),
        begin=match.start(f"{x}letter"),
        end=boxed.end() if boxed else told,
    )


def _is_told(label: re.Match[str]) -> bool:
    """Whether a word beside an answer's name makes it another's answer, or none."""
    before = _WORD_BEFORE.search(label.string, max(0, label.start("noun") - 40), label.start("noun"))
    if before is not None and before[1].lower() not in words.BEFORE_NOUN:
        return True
    if _OTHERS_AFTER.match(label.string, label.end("noun"), label.start("join")):
        return True
    after = _WORD_AFTER.match(label.string, label.end("noun"), label.start("join"))
    return label["noun"].lower() in words.ROMANCE and after is not None and after[1].lower() not in words.AFTER_NOUN


def _entries(form: Plain, given: Collection[int]) -> Iterator[LetterPlace]:
    """Yield the lines that begin with a letter as lists have it, unless several do: then they are the options.

    `given` are the places of letters that a sentence or a label gives: before their option they are no list.
    """
    found = [_place("entry", match) for match in islice(_ENTRY.finditer(form.text), MOST_STATEMENTS + 1)]
    alone = [_stands_alone(place, form.text) for place in found]
    listed = {match[1] for match in _LISTED.finditer(form.text) if match.start(1) not in given}
    for place, by_itself in zip(found, alone, strict=True):
        if not by_itself and (place.enclosed or form.text[place.end : place.end + 1] in {".", ")", ":"}):
            listed.add(place.letter)
    for place, by_itself in zip(found, alone, strict=True):
        if by_itself or len(listed) < 2 or _announced(place, form.text):
            yield place


def _announced(place: LetterPlace, text: str) -> bool:
    """Whether the line before says that the answer follows, and the line after is no further option."""
    before = text[max(0, place.start - WINDOW) : place.start].rstrip("\n ").rpartition("\n")[2]
    following = text[place.end : place.end + WINDOW].partition("\n")[2].lstrip("\n ")
    return _ANNOUNCES.search(before) is not None and _ENTRY.match(following) is None


def _stands_alone(place: LetterPlace, text: str) -> bool:
    """Whether the letter is a line of its own."""
    end = text.find("\n", place.end)
    return text[place.end : None if end < 0 else min(end, place.end + 4)].strip(" .!:,)") == ""


def _is_own(mark: str, letter: str, form: Plain) -> bool:
    return not mark or letter in form.letters.get(mark, ())


def _taken_back(form: Plain, letter: str, first: int) -> bool:
    """Whether a text negates the letter anywhere, names another option as the answer, or doubts after stating it."""
    text = form.text
    if any((match["after"] or match["before"]) == letter for match in _NEGATED.finditer(text)):
        return True
    if any(not _is_own(match["mark"], letter, form) for match in _OTHER_NAMED.finditer(text)):
        return True
    if words.SECOND_THOUGHT.search(text, first):
        return True
    others = (
        match["chosen"] or match["other"] or match["last"] or match["after"] or match["before"]
        for match in _OTHER_THOUGHT.finditer(text, first)
    )
    return any(other != letter for other in others)
