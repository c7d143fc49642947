import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.reasoning import TRACE_STYLES, split_reasoning, trace_style

HARMONY = "<|channel|>analysis<|message|>Maybe C.<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>"


@pytest.mark.parametrize(
    ("style", "text", "answer"),
    [
        ("think", "<think>Maybe C.</think>\n\nB", "B"),
        ("think", "Maybe C.</think> B", "B"),
        ("think", "<think>C</think>no<think>D</think>B", "B"),
        ("think", "B", "B"),
        ("think", "<think>Maybe C", ""),
        ("think", "<think>C</think>B<think>or D", ""),
        ("think_in_prompt", "Maybe C.</think>B", "B"),
        ("think_in_prompt", "Maybe C, it is", ""),
        ("gpt-oss", HARMONY, "B"),
        ("gpt-oss", "Maybe C.<|return|>B", "B"),
        ("gpt-oss", "B<|return|>", "B"),
        ("gpt-oss", "<|channel|>analysis<|message|>Maybe C.<|end|>", ""),
        ("gpt-oss", "analysisMaybe C.assistantfinalB", "B"),
        ("gpt-oss", "analysisMaybe C", ""),
        ("gemma", "<|channel>thought\nMaybe C.<channel|>B", "B"),
        ("gemma", "<|channel>thought\nMaybe C.", ""),
        ("gemma", "thought\nMaybe C.", ""),
        ("gemma", "B", "B"),
        ("medgemma", "<unused94>thought\nMaybe C.<unused95>B", "B"),
        ("medgemma", "<unused94>thought\nMaybe\nC", ""),
    ],
)
def test_the_answer_stands_after_the_trace(style: str, text: str, answer: str) -> None:
    split = split_reasoning(text, trace_style(style))
    assert split.answer == answer
    assert ("Maybe C" in split.trace) == ("Maybe C" in text)


def test_a_model_that_does_not_reason_keeps_its_text() -> None:
    assert split_reasoning(" <think>B ", None).answer == "<think>B"


def test_a_trace_from_another_field_is_never_the_answer() -> None:
    assert split_reasoning("", trace_style("think"), "The answer is B").answer == ""
    split = split_reasoning("B", trace_style("think_in_prompt"), " Maybe C ")
    assert (split.answer, split.trace) == ("B", "Maybe C")
    assert split_reasoning("B", None, "why").trace == "why"


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected 'gpt-oss', or another of think"):
        trace_style("gptoss")
    with pytest.raises(InvalidInputError, match="expected one of think,"):
        trace_style("?")


MARKS = [mark for style in TRACE_STYLES for mark in (*style.openers, *style.closers, *style.enders)]


@given(st.sampled_from(TRACE_STYLES), st.lists(st.sampled_from([*MARKS, "B", " ", "word"]), max_size=8).map("".join))
def test_no_mark_of_the_style_is_left_in_an_answer(style: object, text: str) -> None:
    answer = split_reasoning(text, style).answer  # type: ignore[arg-type]
    marks = (*style.openers, *style.closers)  # type: ignore[attr-defined]
    assert not any(mark in answer for mark in marks if mark.startswith("<"))
