import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.safety.answers.replies import MAX_CHARACTERS, UnclearReplyError, final_object


def said(letter: str) -> str:
    return json.dumps({"choice": letter, "why": "because"})


@pytest.mark.parametrize(
    "text",
    [
        said("B"),
        f"```json\n{said('B')}\n```",
        f"<think>First {said('A')} no.</think>{said('B')}",
        f"First {said('A')} but no, {said('B')}",
        f'<think>set {{A, B}} of "things", {{"choice": "A" or not, and {{"choi</think>{said("B")}',
        f'{said("B")} and {{"note": 1}}',
        f'{{"result": {said("B")}}}',
        f'{{"final": {said("B")}, "draft": {said("A")}}}',
        f'{{"first": {said("B")}, "again": [{said("B")}]}}',
        f"[{said('B')}]",
        '{"choice": "B", "why": {"choice": "A"}}',
        '{"choice": "B", "why": "the text says </think> {x}"}',
        '{"choice": "B", "why": "a line\nand another"}',
        '{"choice": "B", "choice": "B"}',
        f"<|channel|>analysis<|message|>{said('A')}<|channel|>final<|message|>{said('B')}",
        f"a {{ b }} {said('B')} $\\boxed{{B}}$",
    ],
)
def test_the_final_object_is_what_was_said(text: str) -> None:
    assert final_object(text, "choice")["choice"] == "B"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a JSON object"),
        ("B", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"other": 1}', "not a JSON object"),
        (f'{said("A")} no: {{"choice": "B', "ends within a JSON object"),
        (f'{said("A")} no: {{"choice": ', "ends within a JSON object"),
        (f"<think>{said('A')} or", "ends within its reasoning"),
        (f"<think>or {said('A')}", "ends within its reasoning"),
        (f"<think>{said('A')}</think>", "no JSON object after its reasoning"),
        (f"<think>{said('A')}</think> So B.", "no JSON object after its reasoning"),
        ('{"choice": "A", "choice": "B"}', "twice, with two values"),
        ('{"a":' * 5000, "JSON object"),
        (f'{{"one": {said("A")}, "other": {said("B")}}}', "several objects that differ"),
        (f'{{"tries": [{said("A")}, {said("B")}]}}', "several objects that differ"),
        ("{" * 5000, "not a JSON object"),
        ("x" * (MAX_CHARACTERS + 1), "over the limit"),
    ],
)
def test_what_cannot_be_told_is_no_reply(text: str, why: str) -> None:
    with pytest.raises(UnclearReplyError, match=why):
        final_object(text, "choice")


@given(st.text(alphabet='{}[]":,\\ab<>/think', max_size=200))
def test_any_text_gives_an_object_or_a_reason(text: str) -> None:
    with contextlib.suppress(UnclearReplyError):
        assert "a" in final_object(text, "a")
