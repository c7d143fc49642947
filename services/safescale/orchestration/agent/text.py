"""Words, key terms, sentences and clipping: what the agent's rules see of a text. Pure."""

import re

ELLIPSIS = " …"

# Function words, and words that exam questions share whatever they ask.
_STOP_WORDS = (
    "a an and any are as at be been being below above both but by can cannot could did do does during each either for "
    "from had has have having he her hers him his how i if in into is it its itself let may me might more most must my "
    "neither no nor not of off on once only or other our out over own per she should so some such than that the their "
    "theirs them then there these they this those through to too under until up upon us very was we were what when "
    "where whether which while who whom whose why will with within without would yes you your all none "
    "following one two best likely answer option question correct true false statement regarding typically usually "
    "commonly associated following except patient patients year old man woman male female presents present "
    "shows show shown seen find finding findings next step appropriate suspected suspicion "
    "gives give given evidence against regard"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that never are key terms."""

_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\W_a-z])|\n+")
_COMPLETE = re.compile(r"^.*[.!?](?:[ \t]*\[[\d, ]+\])*(?=\s|$)", re.DOTALL)
_SPACE = re.compile(r"\s+")


def one_line(text: str) -> str:
    """Collapse each run of white space into one blank, with none at the ends."""
    return _SPACE.sub(" ", text).strip()


def words(text: str) -> list[str]:
    """Words in lower case, in order."""
    return _WORD.findall(text.lower())


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and word[-2] not in "sui":
        return word[:-1]
    return word


def terms(text: str) -> tuple[str, ...]:
    """Key terms in order of first appearance: words of at least two letters, stop words left out, plural s cut."""
    found = (_singular(word) for word in words(text) if len(word) > 1 and word not in STOP_WORDS)
    return tuple(dict.fromkeys(found))


def sentences(text: str) -> list[str]:
    """Sentences in order, each on one line: cut after a full stop, question or exclamation mark, and at line ends."""
    return [line for part in _SENTENCE_END.split(text) if (line := one_line(part))]


def complete_sentences(text: str) -> str:
    """Cut the text after its last complete sentence; the whole text when none is complete."""
    match = _COMPLETE.match(text)
    return match.group() if match else text


def clip(text: str, limit: int) -> str:
    """Return the text on one line of at most `limit` characters, cut between words and marked with an ellipsis."""
    line = one_line(text)
    if len(line) <= limit:
        return line
    room = limit - len(ELLIPSIS)
    if room <= 0:
        return ""
    head = line[: room + 1]
    cut = head.rfind(" ")
    return (head[:cut] if cut > 0 else line[:room]).rstrip(" ,;:") + ELLIPSIS


def excerpt(text: str, wanted: frozenset[str], limit: int) -> str:
    """Return the sentences with most of the wanted terms, in their order, in at most `limit` characters.

    Sentences are taken by the number of wanted terms, earlier ones first among equals, until the next does not fit.
    """
    parts = sentences(text)
    ranked = sorted(range(len(parts)), key=lambda index: (-len(wanted & set(terms(parts[index]))), index))
    taken: list[int] = []
    room = limit
    for index in ranked:
        if len(parts[index]) + 1 > room:
            break
        taken.append(index)
        room -= len(parts[index]) + 1
    if not taken:
        return clip(parts[ranked[0]], limit) if parts else ""
    return " ".join(parts[index] for index in sorted(taken))
