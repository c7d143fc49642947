from hypothesis import given
from hypothesis import strategies as st

from safescale.inference.backends.llama.grammar import forcing_grammar, stand_alone


def test_tokens_are_named_in_their_order() -> None:
    assert forcing_grammar([(7, b"Free"), (8, b" air")]) == "root ::= <[7]> <[8]>"


def test_tokens_with_a_part_of_a_character_do_not_stand_alone() -> None:
    smile = "😀".encode()
    tokens = [(1, b"a"), (2, b" " + smile[:2]), (3, smile[2:]), (4, "é".encode()), (5, b"b")]
    assert stand_alone(tokens) == [True, False, False, True, True]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 4))
def test_a_token_stands_alone_where_both_its_ends_are_between_characters(text: str, width: int) -> None:
    data = text.encode()
    ends = {len(text[:index].encode()) for index in range(len(text) + 1)}
    begins = range(0, len(data), width)
    tokens = [(index, data[begin : begin + width]) for index, begin in enumerate(begins)]
    expected = [begin in ends and min(begin + width, len(data)) in ends for begin in begins]
    assert stand_alone(tokens) == expected
