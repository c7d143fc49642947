import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import InvalidInputError
from safescale.core.safety.draw import draw_questions, is_day

BANK = tuple(f"q{number:03d}" for number in range(120))


def test_the_same_day_draws_the_same_and_another_day_others() -> None:
    first = draw_questions(BANK, (), 20, 42, "2026-12-01")
    assert draw_questions(tuple(reversed(BANK)), (), 20, 42, "2026-12-01") == first
    assert draw_questions(BANK, (), 20, 42, "2026-12-02") != first
    assert draw_questions(BANK, (), 20, 43, "2026-12-01") != first


def test_a_bank_is_asked_once_through_and_is_then_used_up() -> None:
    asked: list[str] = []
    for day in range(1, 7):
        asked += draw_questions(BANK, asked, 20, 42, f"2026-12-{day:02d}")
    assert sorted(asked) == list(BANK)
    with pytest.raises(InvalidInputError, match=r"used up: 20 questions are to be drawn and 0 of its 120 are left"):
        draw_questions(BANK, asked, 20, 42, "2026-12-07")
    with pytest.raises(InvalidInputError, match=r"21 questions are to be drawn and 20 of its 120 are left"):
        draw_questions(BANK, asked[:100], 21, 42, "2026-12-06")


def test_every_question_is_as_likely_as_another() -> None:
    # 600 draws of 12 of 120: each is drawn 60 times, with a standard deviation of 7.3.
    counts = dict.fromkeys(BANK, 0)
    for seed in range(600):
        for identifier in draw_questions(BANK, (), 12, seed, "2026-12-01"):
            counts[identifier] += 1
    assert 60 - 5 * 7.3 < min(counts.values()) <= max(counts.values()) < 60 + 5 * 7.3


@given(asked=st.sets(st.sampled_from(BANK), max_size=100), seed=st.integers(0, 2**31 - 1))
def test_what_was_asked_is_not_drawn_again_and_moves_nothing_else(asked: set[str], seed: int) -> None:
    drawn = draw_questions(BANK, asked, 20, seed, "2026-12-01")
    assert len(set(drawn)) == 20
    assert not asked & set(drawn)
    everything = draw_questions(BANK, (), 20, seed, "2026-12-01")
    assert set(everything) - asked <= set(drawn)


@pytest.mark.parametrize(
    ("text", "day"), [("2026-12-01", True), ("20261201", False), ("2026-13-01", False), ("", False)]
)
def test_days(text: str, day: bool) -> None:
    assert is_day(text) is day
