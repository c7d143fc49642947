"""The grammar (GBNF of llama.cpp) that leaves a model exactly one text to write, token by token."""

from collections.abc import Sequence

from safescale.core.errors import InvalidInputError

Token = tuple[int, bytes]
"""A token of a text: its id, and the bytes that it stands for."""

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def forcing_grammar(tokens: Sequence[Token]) -> str:
    """A grammar whose one sentence is these tokens.

    Naming the tokens keeps the tokenizer's own split: a grammar of characters would let the model write `F`, `re`, `e`.
    Tokens that hold only a part of a character cannot be named in a grammar; such a character stands as a literal.

    Raises:
        InvalidInputError: the tokens do not end with a whole character.

    """
    parts: list[str] = []
    pending = b""
    for token, piece in tokens:
        whole = pending + piece
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            pending = whole
            continue
        parts.append(literal(text) if pending else f"<[{token}]>")
        pending = b""
    if pending or not parts:
        raise InvalidInputError("a text to score is empty or ends within a character")
    return "root ::= " + " ".join(parts)


def literal(text: str) -> str:
    """A quoted GBNF literal of a text: quotes, backslashes and control characters escaped, all else as it is."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if code < 0x20 or 0x7F <= code < 0xA0:
        return f"\\x{code:02X}" if code < 0x80 else f"\\u{code:04X}"
    return character
