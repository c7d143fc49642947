"""Whole lines out of a body that comes in pieces cut anywhere."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from safescale.gateway.http.problem import HttpError

BLOCK_BYTES = 64 * 1024
"""Lines are handed on together from about this many bytes on."""


@dataclass(frozen=True, slots=True)
class LineBlock:
    """Whole lines and the number of the first one, from 1."""

    first: int
    data: bytes


async def whole_lines(pieces: AsyncIterable[bytes], limit: int, block: int = BLOCK_BYTES) -> AsyncIterator[LineBlock]:
    """Yield the lines of a body in blocks; the last may lack its line end.

    Raises:
        HttpError: 413, a line is longer than `limit` bytes.

    """
    first = 1
    rest = bytearray()
    async for piece in pieces:
        rest += piece
        end = rest.rfind(b"\n") + 1
        # A piece cannot end a line that is too long and hide it: what is before its last line end was bounded too.
        if len(rest) - end > limit:
            raise HttpError(413, "LIMIT_EXCEEDED", f"a line is longer than the limit of {limit:,} bytes")
        if end and len(rest) >= block:
            data = bytes(rest[:end])
            del rest[:end]
            yield LineBlock(first, data.removesuffix(b"\n"))
            first += data.count(b"\n")
    if rest:
        yield LineBlock(first, bytes(rest).removesuffix(b"\n"))
