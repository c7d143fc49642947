import pytest

from safescale.core.inputs.text import unseen, visible, visible_line

UNSEEN = (
    "\x00", "\x07", "\x0b", "\x1b", "\x7f", "\x85", "\x9b", "\u200b", "\u2028", "\u2029", "\u202e", "\u2066", "\u2069",
    "\ufeff", "\ufff9", "\ufdd0", "\ufffe", "\uffff", "\ud800", "\udfff", "\U0001fffe", "\U0010ffff", "\U000e0041",
)  # fmt: skip


@pytest.mark.parametrize("char", UNSEEN)
def test_what_no_reader_can_see_is_written_out(char: str) -> None:
    shown = visible(f"a{char}b")
    assert shown.isascii()
    assert shown == f"a{char.encode('unicode_escape').decode()}b"
    assert visible(shown) == shown
    assert unseen(f"a{char}b") == f"U+{ord(char):04X}"


@pytest.mark.parametrize(
    "text", ["", "plain", "Grüße, Ω ≤ 5", "心臓", "אבג\u200f", "a\u00a0b", "👩\u200d⚕️", "a\nb\tc\r\nd", "C:\\x1b", "�"]
)
def test_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert visible(text) == text
    assert unseen(text) is None


def test_a_carriage_return_that_would_overwrite_its_line_is_written_out() -> None:
    assert visible("passed\rFAILED") == "passed\\rFAILED"


def test_a_line_stays_one_line() -> None:
    assert visible_line("a\nb\tc\r\nd\x1b[2J\ud800") == "a\\nb\\tc\\r\\nd\\x1b[2J\\ud800"
