import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.gateway.http.lines import whole_lines
from safescale.gateway.http.problem import HttpError


async def pieces_of(body: bytes, cuts: list[int]):
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        yield body[begin:end]


@given(st.lists(st.sampled_from([b"ab", b"", b"\n", b"x" * 9, b"\r\n"])).map(b"".join), st.lists(st.integers(0)))
async def test_lines_come_whole_and_counted_however_the_body_is_cut(body: bytes, cuts: list[int]) -> None:
    found = [block async for block in whole_lines(pieces_of(body, cuts), limit=1000, block=5)]
    expected = list(enumerate(body.split(b"\n"), start=1))
    lines = [(block.first + at, line) for block in found for at, line in enumerate(block.data.split(b"\n"))]
    # Blank lines at the end may be left out: they hold nothing.
    rest = [line for number, line in expected if number > len(lines)]
    assert lines == expected[: len(lines)]
    assert not b"".join(rest)


async def test_a_line_over_the_limit_is_refused_before_it_is_whole() -> None:
    async def endless():
        while True:
            yield b"x" * 100

    with pytest.raises(HttpError, match="longer than the limit of 1,000 bytes") as caught:
        async for _ in whole_lines(endless(), limit=1000):
            pass
    assert caught.value.status == 413
