"""Whether a text states an option letter: the guard against letters that are no selection (protocol section 4.3).

A capital letter on its own may be a part of a term: `Kerley B lines`, `hepatitis B`, `Fig. C`, `37 C`. A letter
counts only where the text around it allows nothing else; in doubt it does not, and a person reads the answer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION_WORDS = _words("""
    a all also although am an and are as be because been being both but by can could did do does either else even for
    from had has have he hence her here his how i if in instead into is it its just may me might more most must my
    neither no nor not now of off on only or other our out over own per rather seems she should since so some such than
    that the their them then there therefore these they this those thus to too unless until up us very was we were what
    when where whereas which while who why will with within without would yes yet you your
""")

_NAMING = _words("""
    alternativa alternative answer answers antwoord antwort antwortmöglichkeit antwortoption auswahl buchstabe cevap
    choice choices choix choose chose chosen letra letter lettera lettre lösung odpověď odpowiedź opcion opción optie
    option options opzione opção pick picked proposition reponse resposta respuesta risposta réponse scelta select
    selected selecting selection wahl
""")
"""Words before a letter after which it is one, whatever follows."""

_BEFORE_ELSEWHERE = _words("""
    also auf bleibt c'est choisi choisir choisirais choisis d'où daher damit demnach denke deshalb deswegen donc dunque
    ehesten elegir elegiría elijo entonces entscheide er escogería escojo escolheria escolho est este für folglich
    gewählt ich ikke kies kiezen la lautet le logo mais meine nehme niet nicht non no optaría par perciò portanto pour
    prends quindi retenir retiens scegliere scelgo scheint selecciono seleciono sembra serait sería seria será sind soit
    somit statt tendiere tippe trifft vermutlich vælger väljer velger wahrscheinlichsten wähle wählen wäre wird würde är
    é être
""")
"""Words of other languages right before a letter that is no part of a term with them."""

_AFTER_ELSEWHERE = _words("""
    als bo car convient correspond correspondent da denn eftersom entspricht es est fordi gewählt ist korrekt nehmen
    omdat parce pas passt perché pois ponieważ porque puisque richtig scheint semble serait sería seria trifft wäre
    want weil wird wählen zu zutreffend är è é
""")
"""Words of other languages right after a letter that is no part of a term with them."""

_ENDS_UNSPACED = ("答案", "选项", "選項", "选择", "選擇", "选", "選", "是", "为", "為", "は", "정답은", "답은")
"""Ends of the text before a letter in languages that do not separate words by blanks."""

_BEFORE = (
    _FUNCTION_WORDS
    | _NAMING
    | _BEFORE_ELSEWHERE
    | _words("""
    accept agree answered answering believe best chooses choosing circle conclude concludes conclusion confident
    consider correct decision diagnosis el es est exclude excludes favor favoring favors favour favouring favours
    final go goes going guess guessing i'd i'll indicates ist it's keep lean leaning leave leaves leaving letters
    likely makes making mark mean means nämlich picking picks prefer preferred probable propose reject remains
    reply respond response right rule ruled rules ruling safest say saying selects settle solution stick submit
    suggest suggests support supports sure tempting that's think thinks unlikely versus vote vs wrong è
""")
)
"""Words right before a letter that is no part of a term with them; so is every adverb in -ly."""

_AFTER = (
    _FUNCTION_WORDS
    | _AFTER_ELSEWHERE
    | _words("""
    addresses agrees allows appears avoids based best carries contradicts correct corresponds describes due ensures
    explains fits follows gives given incorrect likely looks makes matches means offers provides reflects remains
    represents requires right seems shows stands states suggests though treats unlikely versus violates vs wins wrong
""")
) - _words("a an her his my other our own their your")
"""Words right after a letter that is no part of a term with them."""

_LABELS = _words("""
    abb abbildung bild blutgruppe clase classe cliché epatite estadio figura groupe gruppe grupo gruppo hepatite
    hépatite imagen klasse lignes ligne linien stade stadium tafel tipo typ vitamina vitamine
    antigen area arrow atom band blood bone box category cell chain chapter class column complex cytokine eq equation
    exhibit factor fig figs figure figures film frame gene grade gradient grp group groups haemophilia hemophilia hep
    hepatitis hormone image images immunoglobulin influenza label lead leads level levels ligament line lines lobe
    marker no nos panel panels part pattern phase photo photograph picture plate position protein receptor region roman
    row rows scale scan score section segment sequence series serotype sheet sign site slide stage stages station step
    strain strep streptococcus structure subclass subgroup subtype table time toxin tracing type types view virus vit
    vitamin vitamins wave waves wire zone zones
""")
"""Words after which a letter is a part of their term even in brackets or emphasis."""

_ABBREVIATIONS = _words("abb cat eq fig figs gr hep no nos sect st strep vit")
"""Words whose dot ends no sentence."""

_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_ALONE = rf"(?<![^\W_{_UNSPACED}])(?<![^\W_]['’-])(?<![°′″µ]){{letter}}(?![^\W_])(?!['’-][^\W_])(?![+°′″%])"
_WORD_BEFORE = re.compile(r"([^\W_](?:['’-]?[^\W_])*)(\.?)([ \t]*)([*_`\"'“‘(\[{$\\]*)\Z")
_WORD_AFTER = re.compile(r"([*_`\"'”’)\]}$]*)([.:]?)[ \t]+([*_`\"'“‘(]*)([^\W\d_](?:['’-]?[^\W_])*)")
_LISTED_BEFORE = re.compile(
    r"(?<![^\W_])[A-Z]\d{0,2}(?:[ \t]*[,/&+][ \t]*(?:and|or|und|y|et)?[ \t]*|[ \t]+(?:and|or)[ \t]+)\Z"
)
_NAMED = re.compile(
    r"[:=][ \t]*[*_`\"'(\[{$\\]*\Z|\b(?:answer|choice|option|selection|antwort|respuesta|réponse|risposta)[ \t]+"
    r"(?:is|would be|must be|should be|ist|es|est|è)\W+\Z",
    re.IGNORECASE,
)
"""Before a letter that is given as the answer: `Answer: B`, `the answer is B`."""

_NUMBER_BEFORE = re.compile(r"\d[ \t°]*\Z")
_SELECTION_GOES_ON = re.compile(r"(?:is|because|since|as|due|based|for)\b")
_NO_NOUN = re.compile(r"(?:seems|appears|should|would|fits|remains|ist|weil|wäre|est|car|es|porque|è|perché|é)\b")
"""Words that never follow an article."""

_SENTENCE_BEGINS = re.compile(r"(?:^|[.!?\n])[\s\"'“‘>*_#-]*\Z")
_CONTEXT = 120
"""Characters on each side of a letter that are examined."""


@dataclass(frozen=True, slots=True)
class QuestionTexts:
    """What was asked: texts whose letters are no selection when the answer repeats them."""

    options: Mapping[str, str] = field(default_factory=dict)
    question: str = ""


def stands_alone(letter: str, text: str, asked: QuestionTexts | None = None) -> bool:
    """Return whether the text states the capital letter as a token of its own, not as part of a term.

    Part of a word is a letter that touches a letter or digit, also across an apostrophe or hyphen (`B-cell`, `I'm`).
    English words are distinguished from letters as follows: `A` that begins a sentence before a lower-case word or an
    abbreviation is the article (`A fracture`, `A CT`); `I` before a lower-case word is the pronoun (`I think`).
    Before is, because, since, as, due, based or for (`A because …`) both are letters, as is `A` before `should` and its
    like. Lower-case letters never count.
    A letter before its own option's text is no more than a list where other options are listed so too.
    A letter is a part of a term within the text of an option or next to a word that it adjoins in an option or
    in the question, after a number, and next to words that are not known to go with a selection (`hepatitis B`).
    """
    asked = asked or QuestionTexts()
    terms = _Terms(letter, asked)
    quoted = terms.quoted(text) | terms.listed(text)
    for match in re.finditer(_ALONE.format(letter=letter), text):
        if match.start() in quoted:
            continue
        before, after = _around(match)
        if not _is_word(letter, before, after) and not terms.has(before, after) and _is_stated(before, after, terms):
            return True
    return False


def _entry(letter: str, option: str) -> re.Pattern[str]:
    """Return an option as lists have it: `B. Pneumonia`, `**(B)** Pneumonia`."""
    text = r"\s+".join(map(re.escape, option.split()))
    return re.compile(rf"(?<![^\W_])({letter})[\])*_.:]*[ \t]+[*_]*(?i:{text})")


def _around(match: re.Match[str]) -> tuple[str, str]:
    """Return the text before and after a letter."""
    begin, end = match.span()
    return match.string[max(0, begin - _CONTEXT) : begin], match.string[end : end + _CONTEXT]


def _is_word(letter: str, before: str, after: str) -> bool:
    following = re.match(r"[ \t]+(\S+)", after)
    if letter not in {"A", "I"} or following is None or _SELECTION_GOES_ON.match(following[1]):
        return False
    lower_case = following[1][0].islower()
    if letter == "I":
        return lower_case
    if _NO_NOUN.match(following[1]):
        return False
    abbreviation = re.match(r"[A-Z]{2,}", following[1]) is not None
    return (lower_case or abbreviation) and _SENTENCE_BEGINS.search(before) is not None


class _Terms:
    """Where a letter occurs in the question and its options: whole texts of options, and the words next to it."""

    def __init__(self, letter: str, asked: QuestionTexts) -> None:
        token = re.compile(_ALONE.format(letter=letter))
        self._letter, self._options = letter, asked.options
        # An option whose text is its own letter says no more than the letter does.
        holding = [
            text
            for own, text in asked.options.items()
            if token.search(text) and (own, text.strip()) != (letter, letter)
        ]
        self._quotes = [re.compile(r"\s+".join(map(re.escape, text.split())), re.IGNORECASE) for text in holding]
        self._before: set[str] = set()
        self._after: set[str] = set()
        self.own = asked.options.get(letter, "").casefold().split()
        for text in (*holding, asked.question):
            for match in token.finditer(text):
                before, after = _around(match)
                word, following = _WORD_BEFORE.search(before), _WORD_AFTER.match(after)
                if word is not None and word[1].casefold() not in _BEFORE:
                    self._before.add(word[1].casefold())
                if following is not None and following[4].casefold() not in _AFTER:
                    self._after.add(following[4].casefold())

    def ends_with_own(self, line: str) -> bool:
        """Whether a line ends with the letter's own option, before marks that open around the letter."""
        words = line.rstrip(" \t*_`\"'“‘([{$\\").casefold().split()
        return bool(self.own) and words[-len(self.own) :] == self.own

    def quoted(self, text: str) -> set[int]:
        """Places of the text at which it repeats an option that has the letter."""
        return {place for quote in self._quotes for match in quote.finditer(text) for place in range(*match.span())}

    def listed(self, text: str) -> set[int]:
        """Places of the letter where the text repeats the list of options: it and another before their own texts."""
        found = {
            own: [match.start(1) for match in _entry(own, option).finditer(text)]
            for own, option in self._options.items()
            if option.strip()
        }
        several = sum(bool(places) for places in found.values()) > 1
        return set(found.get(self._letter, ())) if several else set()

    def has(self, before: str, after: str) -> bool:
        """Whether a word next to the letter is next to it in the question or an option too."""
        word, following = _WORD_BEFORE.search(before), _WORD_AFTER.match(after)
        if word is not None and word[1].casefold() in self._before:
            return True
        return following is not None and not following[2] and following[4].casefold() in self._after


def _is_stated(before: str, after: str, terms: _Terms) -> bool:
    """Whether the words around a letter allow for a selection alone."""
    line = before.rpartition("\n")[2]
    word, following = _WORD_BEFORE.search(line), _WORD_AFTER.match(after.partition("\n")[0])
    if listed := _LISTED_BEFORE.search(line):
        # `hepatitis A, B and C`: what the first of a list is, the others are.
        first = before[: len(before) - len(line) + listed.start()]
        return _is_stated(first, " and", terms) and _goes_on(following, terms)
    naming = False
    if word is not None:
        # French and Italian put an article before a vowel: `l'option`.
        known = re.sub(r"^l['’]", "", word[1].casefold())
        if _NUMBER_BEFORE.search(word[1]) and not word[2]:
            return False
        if word[2]:
            # The dot ends a sentence, unless it is that of an abbreviation or of an initial.
            if known in _ABBREVIATIONS or (len(known) == 1 and known.isalpha()):
                return False
        elif word[4] and terms.ends_with_own(line):
            # `Pneumonia (B)` names an option by its text and its letter.
            pass
        elif known in _LABELS or not (word[4] or known in _BEFORE or known.endswith(("ly", *_ENDS_UNSPACED))):
            return False
        naming = known in _NAMING and not word[2]
    return naming or _NAMED.search(line) is not None or _goes_on(following, terms)


def _goes_on(following: re.Match[str] | None, terms: _Terms) -> bool:
    """Whether what follows on the line leaves the letter a selection: nothing, a word of a sentence, its own option."""
    if following is None:
        return True
    closed, dot, opened, word = following[1], following[2], following[3], following[4]
    if terms.own and word.casefold() == _bare(terms.own[0]):
        return True
    if dot == ":" or (closed and not dot) or opened:
        return True
    if word.casefold() in _AFTER:
        return True
    # `B. coli` is an organism, `B. Pneumonia` an option; `B Pneumonia` one too where the options are not known.
    return word[0].isupper() and (bool(dot) or not terms.own)


def _bare(word: str) -> str:
    return re.sub(r"^\W+|\W+$", "", word)
