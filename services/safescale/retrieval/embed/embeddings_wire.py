"""Reading of the answers of `/v1/embeddings`: floats or base64, in whatever order, checked number by number."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safescale.core.errors import GarbageAnswerError
from safescale.retrieval.embed.port import Vectors


def read_vectors(answer: Any, count: int, dimension: int | None) -> tuple[Vectors, str]:
    """Read unit vectors of `count` texts in their order, and the model that the answer names ("" where it names none).

    `dimension` is the length that is expected; None takes any.

    Raises:
        GarbageAnswerError: something is missing, too long, not a number, or zero; the message says where.

    """
    rows = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list) or len(rows) != count:
        found = f"{len(rows)} items" if isinstance(rows, list) else type(rows).__name__
        raise _garbage(f"data has {found}; expected {count}")
    by_place: dict[int, NDArray[np.float32]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise _garbage(f"data[{number}] is {type(row).__name__}; expected an object")
        place = row.get("index", number)
        if not isinstance(place, int) or not 0 <= place < count or place in by_place:
            raise _garbage(f"data[{number}].index is {str(place)[:20]}; expected each of 0 to {count - 1} once")
        by_place[place] = _unit(row.get("embedding"), f"data[{number}].embedding")
    lengths = {len(vector) for vector in by_place.values()} | ({dimension} if dimension else set())
    if len(lengths) != 1:
        named = " and ".join(f"{length:,}" for length in sorted(lengths))
        raise _garbage(f"vectors of {named} numbers; expected {f'{dimension:,}' if dimension else 'one length'}")
    model = answer.get("model")
    return np.stack([by_place[place] for place in range(count)]), model if isinstance(model, str) else ""


def _unit(embedding: Any, place: str) -> NDArray[np.float32]:
    vector = _numbers(embedding, place)
    # In double precision: squares of large numbers leave float32.
    length = float(np.linalg.norm(vector.astype(np.float64))) if len(vector) else 0.0
    if not np.isfinite(length) or length == 0.0:
        raise _garbage(f"{place} is empty, zero or not finite; expected a direction")
    return (vector / length).astype(np.float32)


def _numbers(embedding: Any, place: str) -> NDArray[Any]:
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        except (binascii.Error, ValueError) as error:
            raise _garbage(f"{place} is not base64 of float32 numbers") from error
    if isinstance(embedding, list) and all(type(number) in (int, float) for number in embedding):
        try:
            return np.array(embedding, dtype=np.float64)
        except OverflowError as error:
            raise _garbage(f"{place} holds a number without end") from error
    raise _garbage(f"{place} is {type(embedding).__name__}; expected numbers or base64")


def _garbage(what: str) -> GarbageAnswerError:
    return GarbageAnswerError(f"the embeddings server answered garbage: {what}")
