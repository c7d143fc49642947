"""Properties of the explicit reading, over the labelled outputs and over texts that are made up."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.readings import STATED, TEXTS

from safescale.core.safety.answers.explicit import parse_explicit
from safescale.core.safety.answers.parsing import parse_letter

OPTIONS = {"A": "Kerley B lines", "B": "Deep sulcus sign", "C": "Air crescent sign", "D": "Silhouette sign"}
READ = [each for each in STATED if parse_explicit(each["text"], each["options"]) is not None]
PIECES = [
    "A", "B", "b", "C.", "(D)", "E", "**", "\\boxed{", "}", "{", '"answer"', ":", "Answer:", "The answer is", "or",
    "not", "because", "\n", " ", " ", ".", "?", "Deep sulcus sign", "Kerley B lines", "option", "ist", "est", "es",
    "<answer>", "<think>", "</think>", "```", "Ｂ", "I", "E. coli", "hepatitis", "maybe", "correct", "is", "À",
    "\u0301", "\ue000", "\x00",
]  # fmt: skip


def another(each: dict[str, Any]) -> str:
    """Return a letter that is an option and not the one stated; one that is no word, if there is any."""
    others = [letter for letter in each["options"] if letter != each["label"]]
    return max(others, key=lambda letter: (letter not in {"A", "I"}, letter))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join) | st.text(max_size=60))
def test_any_text_gives_an_option_or_none(text: str) -> None:
    assert parse_explicit(text, OPTIONS) in {*OPTIONS, None}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ABCDEab .()[]*_:,\n", max_size=6))
def test_what_is_read_strictly_is_read_alike(text: str) -> None:
    letter = parse_letter(text, OPTIONS)
    if letter is not None:
        assert parse_explicit(text, OPTIONS) == letter


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TEXTS), st.randoms(use_true_random=False))
def test_the_order_of_the_other_options_is_no_matter(each: dict[str, Any], random: Any) -> None:
    letter = parse_explicit(each["text"], each["options"])
    if letter is not None:
        others = [name for name in each["options"] if name != letter]
        texts = [each["options"][name] for name in others]
        random.shuffle(texts)
        assert parse_explicit(each["text"], each["options"] | dict(zip(others, texts, strict=True))) == letter


@pytest.mark.parametrize(
    "more",
    [
        "\nAnswer: {}", "\nThe answer is {}.", "\n\\boxed{{{}}}", " Actually, {}.", "\nWait, it is {}.",
        "\n{} is also possible.", "\n<answer>{}</answer>", "\nI choose {}.", "\n{}", "\nI am not sure.",
    ],
)  # fmt: skip
def test_a_second_letter_or_a_doubt_leaves_none(more: str) -> None:
    read = {each["id"]: parse_explicit(each["text"] + more.format(another(each)), each["options"]) for each in READ}
    assert {name: letter for name, letter in read.items() if letter is not None} == {}


def test_a_letter_that_is_called_wrong_leaves_none() -> None:
    read = {
        each["id"]: parse_explicit(f"{each['text']}\n{each['label']} is incorrect.", each["options"]) for each in READ
    }
    assert {name: letter for name, letter in read.items() if letter is not None} == {}


CHANGES: dict[str, Callable[[str, str], str]] = {
    "not": lambda letter, _: f"not {letter}",
    "or": lambda letter, other: f"{letter} or {other}",
    "and": lambda letter, other: f"{letter} and {other}",
    "slash": lambda letter, other: f"{letter}/{other}",
    "comma": lambda letter, other: f"{letter}, {other}",
    "either": lambda letter, other: f"either {letter} or {other}",
    "neither": lambda letter, other: f"neither {letter} nor {other}",
    "maybe": lambda letter, _: f"maybe {letter}",
    "probably": lambda letter, _: f"probably {letter}",
    "outside": lambda *_: "Z",
    "type": lambda letter, _: f"type {letter}",
    "vitamin": lambda letter, _: f"vitamin {letter}",
    "hepatitis": lambda letter, _: f"hepatitis {letter}",
    "figure": lambda letter, _: f"Figure {letter}",
    "organism": lambda letter, _: f"{letter}. coli",
    "group": lambda letter, _: f"{letter} positive",
    "cells": lambda letter, _: f"{letter} cells",
    "cell": lambda letter, _: f"{letter}-cell",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_letter_in_doubt_or_in_a_term_is_not_read(change: str) -> None:
    """The statements of the labelled outputs, each with its letter made doubtful, foreign or a part of a term."""
    read: dict[str, str | None] = {}
    for each in READ:
        token = re.compile(rf"(?<![\w'-]){each['label']}(?![\w'-])")
        if (
            each["language"] != "en"
            or any(map(token.search, each["options"].values()))
            or not token.search(each["text"])
        ):
            continue
        changed = token.sub(lambda _, each=each: CHANGES[change](each["label"], another(each)), each["text"])
        read[changed] = parse_explicit(changed, each["options"])
    assert len(read) > 50
    assert {text: letter for text, letter in read.items() if letter is not None} == {}


@pytest.mark.parametrize(
    "before", ["If the film is erect, ", "Perhaps ", "Some students say: ", "It is not true that "]
)
def test_a_condition_a_doubt_or_a_report_before_a_sentence_leaves_none(before: str) -> None:
    sentences = [
        each for each in READ if each["kind"] == "sentence" and each["language"] == "en" and "!" not in each["text"]
    ]
    read = {before + each["text"]: parse_explicit(before + each["text"], each["options"]) for each in sentences}
    assert len(read) > 30
    assert {text: letter for text, letter in read.items() if letter is not None} == {}
