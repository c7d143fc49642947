import pytest

from safescale.core.inputs.text_rules import MAX_NAME, name_fault, text_fault, title_fault


@pytest.mark.parametrize("char", list("\x00\t\n\x0b\r\x1b\x7f\x85\x9b\u202e\u2028\ud800\ufffe\U0001ffff"))
def test_a_name_that_cannot_be_shown_in_one_line_is_a_fault(char: str) -> None:
    fault = name_fault(f"chest{char}1")
    assert fault is not None
    assert fault[0].startswith(f"U+{ord(char):04X} at character 6 of ")
    assert fault[0].isascii()


@pytest.mark.parametrize("name", ["", "chest-001", "Thorax: Übersicht", "胸部 12", "צילום חזה", "x" * MAX_NAME])
def test_names_of_every_language_are_fine(name: str) -> None:
    assert name_fault(name) is None


def test_a_name_has_an_end() -> None:
    assert name_fault("x" * (MAX_NAME + 1)) == ("257 characters", "at most 256 characters")


def test_a_title_may_be_broken_into_lines() -> None:
    assert title_fault("On a\r\nsign\tof it", 100) is None
    assert title_fault("On a\x0bsign", 100) is not None


@pytest.mark.parametrize("char", list("\x00\x08\x1b\x7f\x80\x9f\udfff\ufdd0\uffff\U0010fffe"))
def test_what_no_text_holds_is_a_fault(char: str) -> None:
    fault = text_fault(f"a{char}b")
    assert fault is not None
    assert fault[0].startswith(f"U+{ord(char):04X} at character 2 of ")


@pytest.mark.parametrize("text", ["", "a\nb\tc\r\nd", "page\x0cpage", "soft\x0bbreak", "\u202bעברית\u202c"])
def test_a_text_breaks_its_lines_as_it_likes(text: str) -> None:
    assert text_fault(text) is None


def test_a_text_has_an_end_in_bytes() -> None:
    assert text_fault("é" * 5, 10) is None
    assert text_fault("é" * 6, 10) == ("12 bytes", "at most 10 bytes")


def test_only_a_little_around_the_character_is_shown() -> None:
    fault = text_fault("x" * 100 + "\x1b" + "y" * 100)
    assert fault is not None
    assert fault[0] == f'U+001B at character 101 of "…{"x" * 20}\\x1b{"y" * 20}…"'
