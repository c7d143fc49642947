import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.safety.prompts import (
    PROMPT_VERSION,
    auto_formulation,
    cloze_continuations,
    neutralise_control_tokens,
    render,
)

OPTIONS = {"B": "Kerley\nlines", "A": "air bronchogram"}

GOLDEN_LETTER = """\
Context:
Septal lines mark oedema.

Question:
Which finding is typical?

Options:
A. air bronchogram
B. Kerley lines

Answer:"""

GOLDEN_CLOZE = """\
Question:
Which finding is typical?

Answer:"""


def test_the_prompt_of_this_version() -> None:
    """A change here without a new PROMPT_VERSION would mix two prompts under one name."""
    assert PROMPT_VERSION == "1"
    letter = render(" Which finding is typical? ", OPTIONS, "Septal lines mark oedema.\n", "letter")
    assert letter.user == GOLDEN_LETTER
    assert letter.system == (
        "You are an expert medical assistant. You answer a multiple-choice question with only the letter of the "
        "correct option and nothing else."
    )
    cloze = render("Which finding is typical?", OPTIONS, None, "cloze")
    assert cloze.user == GOLDEN_CLOZE
    assert cloze.system == (
        "You are an expert medical assistant. You answer a question with the correct answer and nothing else."
    )


@pytest.mark.parametrize("empty", [None, "", " \n"])
def test_no_context_means_no_block(empty: str | None) -> None:
    assert render("Q", OPTIONS, empty, "letter").user.startswith("Question:\nQ")


def test_a_cloze_prompt_lists_no_option_and_scores_each() -> None:
    assert "Kerley" not in render("Q", OPTIONS, "C", "cloze").user
    assert cloze_continuations(OPTIONS) == {"A": " air bronchogram", "B": " Kerley lines"}


@pytest.mark.parametrize(
    ("instruct", "size", "expected"),
    [
        (True, 1.1, "letter"), (True, 1.0, "cloze"), (False, 70.0, "cloze"), (True, 0.135, "cloze"),
        (True, None, "letter"), (False, None, "cloze"),
    ],
)  # fmt: skip
def test_auto_takes_letter_for_large_instruct_models(instruct: bool, size: float | None, expected: str) -> None:
    assert auto_formulation(instruct=instruct, parameters_b=size) == expected


MARKS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|channel>",
    "<channel|>",
    "<｜User｜>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<unused95>",
    "</think>",
    "</s>",
    "<bos>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "[SYSTEM_PROMPT]",
]


@pytest.mark.parametrize("mark", MARKS)
def test_no_control_token_survives_anywhere_in_a_prompt(mark: str) -> None:
    prompt = render(f"Q {mark}", {"A": f"{mark}x", "B": "y"}, f"text {mark}\nmore", "letter").user
    assert mark not in prompt
    assert mark not in cloze_continuations({"A": f"{mark}x", "B": "y"})["A"]


def test_clinical_text_is_left_alone() -> None:
    text = "Size < 5 mm, HU > 20; [1] p<0.05 | a>b <5% [see INST] Grad I|II"
    assert neutralise_control_tokens(text) == text


@given(st.lists(st.sampled_from([*MARKS, "<", "|", ">", "x", " ", "[", "]"]), max_size=12).map("".join))
def test_neutralising_is_complete_and_settles(text: str) -> None:
    once = neutralise_control_tokens(text)
    assert neutralise_control_tokens(once) == once
    assert not any(mark in once for mark in MARKS)
    assert re.sub(" ", "", once) == re.sub(" ", "", text)
