import threading

import pytest

from safescale.core.errors import GarbageAnswerError
from safescale.inference.backends.llama.stream import Collector

USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


def collector(chat=True, stop=None, on_piece=None):
    return Collector(chat=chat, stop=stop or threading.Event(), on_piece=on_piece)


def chat(content=None, finish=None, **delta):
    return {"choices": [{"finish_reason": finish, "delta": {"content": content, **delta}}]}


def test_chat_chunks_make_a_text() -> None:
    pieces: list[str] = []
    collect = collector(on_piece=pieces.append)
    progress = {**chat(role="assistant"), "prompt_progress": {"processed": 3}}
    for chunk in (progress, chat(reasoning_content="so "), chat("A"), chat(".", None), chat(finish="stop")):
        assert not collect(chunk)
    assert not collect({"choices": [], "usage": USAGE})
    result = collect.result(0.0, 9e9)
    assert (result.output.text, result.output.reasoning, result.output.finish_reason) == ("A.", "so ", "stop")
    assert (result.prompt_tokens, result.output.generated_tokens) == (5, 2)
    assert pieces == ["so ", "A", "."]
    assert 0 < result.time_to_first_token_s < result.elapsed_s


def test_completion_chunks_make_a_text() -> None:
    collect = collector(chat=False)
    collect({"choices": [{"text": " B", "finish_reason": None}]})
    collect({"choices": [{"text": "", "finish_reason": "length"}], "usage": USAGE})
    assert collect.result(0.0, 1.0).output.text == " B"


def test_a_set_event_ends_the_call_even_while_the_prompt_is_evaluated() -> None:
    stop = threading.Event()
    collect = collector(stop=stop)
    assert not collect(chat(role="assistant"))
    stop.set()
    assert collect(chat(role="assistant"))


def test_an_error_chunk_is_kept_and_ends_the_call() -> None:
    collect = collector()
    assert collect({"error": {"code": 400, "type": "x"}})
    assert collect.refusal == {"code": 400, "type": "x"}


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chat("A", "stop")],
        [chat("A"), {"choices": [], "usage": USAGE}],
        [chat("A", "stop"), {"choices": [], "usage": {"prompt_tokens": None, "completion_tokens": 1}}],
        ["text"],
        [{}],
        [{"choices": [{"finish_reason": "stop"}], "usage": USAGE}],
        [{"choices": 3, "usage": USAGE}],
    ],
)
def test_chunks_that_make_no_answer_are_garbage(chunks) -> None:
    collect = collector()
    for chunk in chunks:
        collect(chunk)
    with pytest.raises(GarbageAnswerError):
        collect.result(0.0, 1.0)
