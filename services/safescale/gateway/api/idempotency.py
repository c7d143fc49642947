"""The Idempotency-Key header. The gateway remembers no key: it takes one where the call itself is idempotent."""

from typing import Annotated

from fastapi import Depends, Header

from safescale.gateway.http.problem import HttpError

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern="^[!-~]*$",
        description="Asks that a repeat does nothing twice; refused with 400 where that cannot be promised.",
        examples=["7c2f6f1e-demo-1"],
    ),
]
"""A key of the caller. What makes a call idempotent is its content: the hash of a benchmark or corpus, the digest of a
run, the state that a cancel, a retry or a resolution starts from."""


def _idempotent(key: IdempotencyKey = "") -> None:
    """Take a key, whose promise the call keeps by itself."""
    del key


TAKES_KEY = Depends(_idempotent)
"""For operations that a key changes nothing of."""


def refuse_key(key: str, why: str) -> None:
    """Refuse a key where a repeat would do its work twice.

    Raises:
        HttpError: 400, when a key is given.

    """
    if key:
        raise HttpError(400, "IDEMPOTENCY_NOT_POSSIBLE", f"Idempotency-Key cannot be honoured here: {why}")
