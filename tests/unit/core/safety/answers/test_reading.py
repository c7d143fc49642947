import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.reading import read_letter, reading_name, reading_version

OPTIONS = {"A": "Kerley B lines", "B": "Deep sulcus sign"}


def test_nothing_means_the_strict_reading() -> None:
    assert (reading_name(""), reading_name("explicit")) == ("strict", "explicit")
    assert reading_version("") == reading_version("strict") != reading_version("explicit")


@pytest.mark.parametrize(
    ("text", "strict", "explicit"), [("B.", "B", "B"), ("The answer is B.", None, "B"), ("C", None, None)]
)
def test_a_letter_is_read_by_the_rules_that_are_named(text: str, strict: str | None, explicit: str | None) -> None:
    assert [read_letter(text, OPTIONS, name) for name in ("", "strict", "explicit")] == [strict, strict, explicit]


def test_a_reading_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="reading 'loose': expected strict or explicit"):
        read_letter("B", OPTIONS, "loose")
