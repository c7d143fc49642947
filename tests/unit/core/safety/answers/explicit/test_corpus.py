"""The labelled outputs of tests/data/readings, read strictly and explicitly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from tests.support.readings import ROOT, STATED, TEXTS

from safescale.core.safety.answers.explicit import parse_explicit
from safescale.core.safety.answers.parsing import parse_letter


@dataclass(frozen=True)
class Measured:
    """What a reading makes of the outputs: ids with a wrong letter, and ids whose letter it reads."""

    wrong: list[str]
    right: list[str]

    @property
    def recall(self) -> float:
        return len(self.right) / len(STATED)


def measured(read: Callable[[str, Mapping[str, str]], str | None]) -> Measured:
    found = {each["id"]: read(each["text"], each["options"]) for each in TEXTS}
    labels = {each["id"]: each["label"] for each in TEXTS}
    return Measured(
        [name for name, letter in found.items() if letter is not None and letter != labels[name]],
        [name for name, letter in found.items() if letter is not None and letter == labels[name]],
    )


@pytest.fixture(scope="module")
def strict() -> Measured:
    return measured(parse_letter)


@pytest.fixture(scope="module")
def explicit() -> Measured:
    return measured(parse_explicit)


def test_the_outputs_are_many_and_two_of_five_state_no_letter() -> None:
    assert len(TEXTS) >= 300
    assert len({each["id"] for each in TEXTS}) == len(TEXTS)
    assert len({(each["text"], *each["options"].values()) for each in TEXTS}) == len(TEXTS)
    assert (len(TEXTS) - len(STATED)) / len(TEXTS) >= 0.4
    assert {each["language"] for each in TEXTS} == {"en", "de", "fr", "es"}


def test_no_letter_is_read_that_is_not_stated(explicit: Measured, strict: Measured) -> None:
    assert (explicit.wrong, strict.wrong) == ([], [])


def test_nearly_all_letters_that_are_stated_are_read(explicit: Measured, strict: Measured) -> None:
    print(f"strict {strict.recall:.1%}, explicit {explicit.recall:.1%} of {len(STATED)} letters, {len(TEXTS)} texts")
    assert explicit.recall >= 0.95
    assert set(strict.right) < set(explicit.right)


def test_the_protocol_shows_what_is_measured(explicit: Measured, strict: Measured) -> None:
    page = (ROOT / "docs/protocol.md").read_text("utf-8")
    for name, found in (("strict", strict), ("explicit", explicit)):
        share = f"{found.recall:.1%}".replace("%", " %")
        assert (
            f"| `{name}` | {len(found.right)} of {len(STATED)} ({share}) | {len(found.wrong)} of {len(TEXTS)} |" in page
        )
