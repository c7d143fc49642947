import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.orchestration.agent.text import (
    STOP_WORDS,
    clip,
    complete_sentences,
    excerpt,
    one_line,
    sentences,
    terms,
    words,
)


def test_terms_leave_out_stop_words_and_plural_s_and_repetitions() -> None:
    assert terms("Which of the fractures is a Colles fracture of bodies?") == ("fracture", "colle", "body")


def test_terms_keep_abbreviations_and_other_scripts() -> None:
    assert terms("CT und MRT: Lungenarterienembolie, T2 基底") == (
        "ct",
        "und",
        "mrt",
        "lungenarterienembolie",
        "t2",
        "基底",
    )


@given(st.text())
def test_terms_are_words_without_stop_words(text: str) -> None:
    found = terms(text)
    assert len(set(found)) == len(found)
    assert not set(words(text)) & STOP_WORDS & set(found)


@given(st.text(), st.integers(0, 60))
def test_clip_never_exceeds_its_limit(text: str, limit: int) -> None:
    clipped = clip(text, limit)
    assert len(clipped) <= limit
    assert "\n" not in clipped
    if len(one_line(text)) <= limit:
        assert clipped == one_line(text)


def test_clip_cuts_between_words() -> None:
    assert clip("acute pulmonary embolism", 18) == "acute pulmonary …"


def test_sentences_end_at_stops_and_lines() -> None:
    assert sentences("Title of it\nA sign is seen. It is e.g. bright.  3 cm or more?") == [
        "Title of it",
        "A sign is seen.",
        "It is e.g. bright.",
        "3 cm or more?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two [1]. Thr", "One. Two [1]."),
        ("One. [2] Tw", "One. [2]"),
        ("One.\n[2] Tw", "One."),
        ("no end", "no end"),
        ("", ""),
    ],
)
def test_complete_sentences(text: str, expected: str) -> None:
    assert complete_sentences(text) == expected


@given(st.lists(st.text(alphabet="abc XYZ.", max_size=40)), st.integers(0, 120))
def test_an_excerpt_never_exceeds_its_limit(parts: list[str], limit: int) -> None:
    assert len(excerpt(" ".join(parts), frozenset(["abc"]), limit)) <= limit


def test_an_excerpt_prefers_sentences_with_wanted_terms_and_keeps_their_order() -> None:
    text = "Nothing here. The liver is large. Also nothing. The spleen is large."
    assert excerpt(text, frozenset(["liver", "spleen"]), 45) == "The liver is large. The spleen is large."
