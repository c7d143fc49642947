"""The tokenizer, chat template and model of the fake TGI: small, deterministic, letters from a hash."""

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

END = "<|im_end|>"
START = "<|im_start|>"
SPECIAL = {START: 1, END: 2}
PIECES = re.compile(r"<\|im_start\|>|<\|im_end\|>| ?[A-Za-z]+|.", re.DOTALL)
LETTERS = "ABCDE"


@dataclass(frozen=True, slots=True)
class Piece:
    """A token: id, text (empty for the first half of a split character), and its bytes of the text."""

    token_id: int
    text: str
    start: int
    stop: int

    @property
    def special(self) -> bool:
        return self.token_id in SPECIAL.values()


def tokenize(text: str) -> list[Piece]:
    """Words with the blank before them, single characters; those beyond three bytes are split into two tokens."""
    found = []
    begin = 0
    for match in PIECES.finditer(text):
        piece = match.group()
        end = begin + len(piece.encode("utf-8", "surrogatepass"))
        if len(piece) == 1 and end - begin > 3:
            found.append(Piece(_id(piece + "1"), "", begin, end))
            found.append(Piece(_id(piece + "2"), piece, begin, end))
        else:
            found.append(Piece(_id(piece), piece, begin, end))
        begin = end
    return found


def _id(piece: str) -> int:
    return SPECIAL.get(piece) or 3 + zlib.crc32(piece.encode()) % 49_000


def render(messages: Sequence[Mapping[str, str]]) -> str:
    """The chat template (that of SmolLM2, without its default system message)."""
    turns = [f"{START}{message['role']}\n{message['content']}{END}\n" for message in messages]
    return "".join(turns) + f"{START}assistant\n"


def draw(choices: str, *parts: object) -> str:
    """One of the choices, by a hash of the parts."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return choices[int.from_bytes(digest[:8], "big") % len(choices)]


def answer(prompt: str, temperature: float, seed: int | None) -> Iterator[Piece]:
    """The tokens of an answer, the end token last. Greedy (temperature 0) depends on the prompt alone.

    A question with options is answered with a letter; anything else with a sentence and letters after it.
    """
    drawn = (prompt, temperature, seed) if temperature else (prompt,)
    options = re.findall(r"^([A-Z])\. ", prompt, re.MULTILINE) if "Options:" in prompt else []
    if options:
        texts = [draw("".join(options), "letter", *drawn)]
    elif temperature:
        texts = [" " + draw(LETTERS, index, *drawn) for index in range(200)]
    else:
        texts = ["The", " answer", " is"] + [" " + draw(LETTERS, index, *drawn) for index in range(200)]
    for text in texts:
        yield Piece(_id(text), text, 0, len(text))
    yield Piece(SPECIAL[END], END, 0, 0)


def logprobs(pieces: Sequence[Piece]) -> list[float | None]:
    """Log-probability of each token after those before it; words that were there before are likely. The first: None."""
    found: list[float | None] = []
    before: set[str] = set()
    for index, piece in enumerate(pieces):
        word = piece.text.strip().lower()
        value = -0.4 if word in before else -3.0 - (piece.token_id % 600) / 100
        found.append(None if index == 0 else value)
        before.add(word)
    return found
