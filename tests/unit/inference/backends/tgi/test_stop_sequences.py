"""A streamed text and a whole one are cut at the same stop text, however the pieces fall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.inference.backends.tgi.stop_sequences import StopGate
from safescale.inference.backends.tgi.wire import TgiAnswer, first_stop, output

LETTERS = st.text("ab\n", max_size=4)


@given(st.lists(LETTERS, max_size=12), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=4))
def test_pieces_add_up_to_the_cut_text_and_never_past_it(pieces: list[str], stops: list[str]) -> None:
    whole = output(TgiAnswer("".join(pieces), "length", 9, 1), stops)
    gate = StopGate(stops)
    given_out = ""
    for piece in pieces:
        given_out += gate.feed(piece)
        assert whole.text.startswith(given_out)
    assert given_out + gate.rest(whole.text) == whole.text
    assert not any(stop in whole.text for stop in stops)
    assert (whole.finish_reason == "stop") is any(stop in "".join(pieces) for stop in stops)


@pytest.mark.parametrize(
    ("text", "stops", "cut"),
    [
        ("abc", (), None),
        ("abc", ("c", "b"), 1),
        ("abcd", ("bcd", "abcde"), 1),
        ("xab", ("b", "ab"), 1),
        ("", ("a",), None),
    ],
)
def test_the_stop_text_counts_that_is_complete_first(text: str, stops: tuple[str, ...], cut: int | None) -> None:
    assert first_stop(text, stops) == cut


def test_what_cannot_become_a_stop_text_is_handed_out_at_once() -> None:
    gate = StopGate(("\n\n",))
    assert [gate.feed(piece) for piece in ("B", "\n", "x", "\n", "\n", "y")] == ["B", "", "\nx", "", "", ""]
