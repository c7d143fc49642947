import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import InvalidInputError
from safescale.inference.backends.grammar import forcing_grammar, literal


def test_whole_tokens_are_named() -> None:
    assert forcing_grammar([(7, b"Free"), (8, b" air")]) == "root ::= <[7]> <[8]>"


def test_a_character_over_several_tokens_stands_as_a_literal() -> None:
    smile = "😀".encode()
    tokens = [(1, b"a"), (2, b" " + smile[:2]), (3, smile[2:]), (4, b"b")]
    assert forcing_grammar(tokens) == 'root ::= <[1]> " 😀" <[4]>'


@pytest.mark.parametrize("tokens", [[], [(1, b"\xc3")]])
def test_nothing_and_half_a_character_cannot_be_forced(tokens) -> None:
    with pytest.raises(InvalidInputError):
        forcing_grammar(tokens)


def test_literals_are_escaped() -> None:
    assert literal('a"b\\c\n\t\x01\x85é') == '"a\\"b\\\\c\\n\\t\\x01\\u0085é"'


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_literal_is_one_line_and_closes_where_it_should(text: str) -> None:
    body = literal(text)[1:-1]
    assert "\n" not in body
    assert '"' not in body.replace("\\\\", "").replace('\\"', "")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(1, 4))
def test_any_split_into_bytes_gives_one_sentence(text: str, width: int) -> None:
    data = text.encode()
    tokens = [(index, data[begin : begin + width]) for index, begin in enumerate(range(0, len(data), width))]
    assert forcing_grammar(tokens).startswith("root ::= ")
