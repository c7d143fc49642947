"""The grammar (GBNF of llama.cpp) that leaves a model exactly one text to write, token by token.

Naming tokens keeps the tokenizer's own split: a grammar of characters would let the model write `F`, `re`, `e`.
"""

from collections.abc import Sequence

Token = tuple[int, bytes]
"""A token of a text: its id, and the bytes that it stands for."""


def forcing_grammar(tokens: Sequence[Token]) -> str:
    """Return a grammar whose only sentence is these tokens, each of which must stand alone (see `stand_alone`)."""
    return "root ::= " + " ".join(f"<[{token}]>" for token, _ in tokens)


def stand_alone(tokens: Sequence[Token]) -> list[bool]:
    """For each token whether it holds whole characters; grammars cannot name one that holds a part of a character."""
    alone = []
    pending = b""
    for _, piece in tokens:
        whole = pending + piece
        try:
            whole.decode()
        except UnicodeDecodeError:
            alone.append(False)
            pending = whole
        else:
            alone.append(not pending)
            pending = b""
    return alone
