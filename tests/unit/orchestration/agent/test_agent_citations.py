import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.orchestration.agent.citations import cited, keep_valid


def test_cited_numbers_in_order_of_appearance() -> None:
    assert cited("A [3]. B [1, 3; 2]. C [x] [12345].") == (3, 1, 2)


@pytest.mark.parametrize(
    ("text", "kept", "removed"),
    [
        ("A sign [1].", "A sign [1].", ()),
        ("A sign [9].", "A sign.", (9,)),
        ("A sign [1, 9; 2].", "A sign [1, 2].", (9,)),
        ("A sign. [1] Another.", "A sign [1]. Another.", ()),
        ("A sign.\n[2] Another", "A sign. [2] Another", ()),
        ("[1] [1] A sign", "[1] A sign", ()),
        ("no citation", "no citation", ()),
    ],
)
def test_citations_that_do_not_exist_go(text: str, kept: str, removed: tuple[int, ...]) -> None:
    assert keep_valid(text, {1, 2}) == (kept, removed)


fragments = st.sampled_from(["[1]", "[2, 7]", "[ 3 ]", "word", ".", " ", "\n", "[", "]", "[9;1]", "Pain"])


@given(st.lists(fragments).map("".join), st.sets(st.integers(0, 10)))
def test_only_valid_citations_are_left(text: str, valid: set[int]) -> None:
    kept, removed = keep_valid(text, valid)
    assert set(cited(kept)) <= valid
    assert set(cited(kept)) == set(cited(text)) & valid
    assert set(removed) == set(cited(text)) - valid


@given(st.lists(fragments).map("".join))
def test_words_stay(text: str) -> None:
    kept, _ = keep_valid(text, ())
    assert kept.count("word") == text.count("word")
