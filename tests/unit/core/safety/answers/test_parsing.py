import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.safety.answers.parsing import parse_letter


@pytest.mark.parametrize(
    "text", ["B", " B\n", "B.", "B)", "B:", "(B)", "[B]", "(B).", "**B**", "**B.**", "**B**.", "**(B)**", "_B_"]
)
def test_exactly_one_letter_is_read(text: str) -> None:
    assert parse_letter(text, "ABCD") == "B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "b",
        "E",
        "AB",
        "B C",
        "B.C",
        "Option B",
        "B. pneumonia",
        "Answer: B",
        "*B",
        "**B*",
        "(B]",
        "(B",
        "B]",
        "B,",
        "А",
        "Ｂ",
        "B\nB",
        "\x00B",
        "No",
        "B..",
        "I think B",
    ],
)
def test_everything_else_is_null(text: str) -> None:
    assert parse_letter(text, "ABCD") is None


def test_letters_beyond_e_are_options_like_others() -> None:
    assert parse_letter("Z", ["A", "Z"]) == "Z"


@given(st.text(alphabet="ABCab .()[]*_:,", max_size=6))
def test_a_letter_that_is_read_is_the_only_one_in_the_text(text: str) -> None:
    letter = parse_letter(text, "ABC")
    if letter is not None:
        assert [character for character in text if character.isalpha()] == [letter]
