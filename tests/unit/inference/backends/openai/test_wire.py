"""Bodies and the strict reading of answers and events."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import (
    BackendError,
    BackendRefusedError,
    BackendUnavailableError,
    GarbageAnswerError,
    PromptTooLongError,
    SafescaleError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.dialect import DIALECTS
from safescale.inference.backends.openai.wire import (
    StreamedText,
    closed,
    opening,
    options,
    read_reply,
    read_texts,
)
from safescale.inference.backends.port import Sampling

USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}


def choice(text: str | None = "B", index: int = 0, finish: object = "stop", **message: object) -> dict:
    return {"index": index, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}


def document(*choices: dict, usage: object = USAGE) -> bytes:
    return orjson.dumps({"choices": list(choices), "usage": usage})


def test_a_body_holds_prompt_and_options() -> None:
    sampling = Sampling(0.7, 10, 5, 20, ("\n",))
    body = orjson.loads(closed(opening("served", Messages("S", 'U "q"'), instruct=True),
                               options(DIALECTS["vllm"], sampling, 20)))  # fmt: skip
    assert body == {
        "model": "served",
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": 'U "q"'}],
        "temperature": 0.7, "max_tokens": 10, "seed": 5, "n": 20, "stop": ["\n"],
        "top_p": 1.0, "top_k": -1, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    }  # fmt: skip


def test_a_base_model_gets_one_text_and_greedy_has_no_seed() -> None:
    body = orjson.loads(closed(opening("m", Messages("S", "U"), instruct=False),
                               options(DIALECTS["other"], Sampling(0.0, 3))))  # fmt: skip
    assert body == {"model": "m", "prompt": "S\n\nU", "temperature": 0.0, "max_tokens": 3}


def test_tgi_is_sent_nothing_that_it_reads_differently() -> None:
    sent = options(DIALECTS["tgi"], Sampling(0.7, 3, 1))
    assert sent == {"temperature": 0.7, "max_tokens": 3, "seed": 1}


def test_answers_come_in_the_order_of_their_choices() -> None:
    reply = read_reply("m", document(choice("C", 2), choice("A", 0), choice("B", 1, "length")), 3, chat=True)
    assert [(output.text, output.finish_reason) for output in reply.outputs] == [
        ("A", "stop"), ("B", "length"), ("C", "stop"),
    ]  # fmt: skip
    assert reply.prompt_tokens == 12
    assert sorted(output.generated_tokens for output in reply.outputs) == [2, 2, 3]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_a_trace_in_a_field_of_its_own_is_kept_apart(field) -> None:
    (output,) = read_reply("m", document(choice("B", **{field: "so"})), 1, chat=True).outputs
    assert (output.text, output.reasoning) == ("B", "so")


def test_a_text_that_is_all_trace_is_empty() -> None:
    (output,) = read_reply("m", document(choice(None, finish="length", reasoning="so")), 1, chat=True).outputs
    assert (output.text, output.reasoning, output.finish_reason) == ("", "so", "length")


def test_completions_are_read() -> None:
    body = orjson.dumps({"choices": [{"index": 0, "text": " B", "finish_reason": "eos_token"}], "usage": USAGE})
    (output,) = read_reply("m", body, 1, chat=False).outputs
    assert (output.text, output.finish_reason) == (" B", "stop")


@pytest.mark.parametrize(
    "body",
    [
        b"lorem",
        b"[]",
        b"null",
        b"{}",
        document(),
        document(choice(), choice(index=1)),
        document(choice(7)),
        document(choice(reasoning=["so"])),
        document(choice(finish=None)),
        document(choice(finish="whim")),
        document(choice(finish="tool_calls")),
        document({"index": 0, "finish_reason": "stop"}),
        document(choice(), usage=None),
        document(choice(), usage={"prompt_tokens": "12", "completion_tokens": 1}),
        document(choice(), usage={"prompt_tokens": True, "completion_tokens": 1}),
        document(choice(), usage={"prompt_tokens": 12, "completion_tokens": -1}),
        orjson.dumps({"choices": 3, "usage": USAGE}),
        orjson.dumps({"choices": ["B"], "usage": USAGE}),
    ],
)
def test_what_is_no_answer_is_garbage(body) -> None:
    with pytest.raises(GarbageAnswerError):
        read_reply("m", body, 1, chat=True)


@pytest.mark.parametrize("indices", [(0, 0), (0, 2), (1, 2)])
def test_choices_that_are_numbered_wrongly_are_garbage(indices) -> None:
    with pytest.raises(GarbageAnswerError):
        read_reply("m", document(*(choice(index=index) for index in indices)), 2, chat=True)


def test_an_answer_that_was_given_up_is_asked_once_more() -> None:
    with pytest.raises(BackendError) as caught:
        read_reply("m", document(choice(finish="abort")), 1, chat=True)
    assert caught.value.details == {"repeat": "once"}
    with pytest.raises(BackendRefusedError):
        read_reply("m", document(choice("", finish="content_filter")), 1, chat=True)


def test_an_error_with_status_200_is_that_error() -> None:
    sentence = "This model's maximum context length is 5 tokens. However, your messages resulted in 9 tokens."
    with pytest.raises(PromptTooLongError):
        read_reply("m", orjson.dumps({"object": "error", "message": sentence, "code": 400}), 1, chat=True)


def test_texts_are_read_however_many_there_are() -> None:
    assert read_texts("m", document(choice("A"), choice("B", 1, reasoning="x")), chat=True) == ["A", "xB"]
    assert read_texts("m", document(choice("A")), chat=True) == ["A"]


def event(delta: dict | None = None, finish: str | None = None, **more: object) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return orjson.dumps({"choices": choices, **more})


def test_events_make_a_text() -> None:
    text = StreamedText("m", chat=True)
    pieces = [
        text.take(piece)
        for piece in (
            event({"role": "assistant", "content": ""}),
            event({"reasoning_content": "so "}),
            event({"reasoning": "it is "}),
            event({"content": "B"}),
            event({"content": None}, "stop", usage=None),
            event(None, usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 11}}),
            b"[DONE]",
        )
    ]
    assert pieces == ["", "so ", "it is ", "B", "", "", ""]
    whole = text.result(2.0, 1.0)
    assert (whole.output.text, whole.output.reasoning, whole.output.generated_tokens) == ("B", "so it is ", 7)
    assert (whole.prompt_tokens, whole.cached_tokens, whole.time_to_first_token_s) == (12, 11, 1.0)


def test_the_first_token_is_not_the_role() -> None:
    text = StreamedText("m", chat=True)
    text.take(event({"role": "assistant", "content": ""}))
    assert not text.begun
    text.take(event({"content": ""}, "stop"))
    assert text.begun


def test_a_stream_without_its_end_was_cut() -> None:
    text = StreamedText("m", chat=True)
    text.take(event({"content": "B"}))
    with pytest.raises(BackendUnavailableError):
        text.result(1.0, 1.0)


def test_a_stream_without_usage_is_garbage() -> None:
    text = StreamedText("m", chat=True)
    text.take(event({"content": "B"}, "stop"))
    with pytest.raises(GarbageAnswerError):
        text.result(1.0, 1.0)


@pytest.mark.parametrize("piece", [b"lorem", b"3", b"{}", b'{"choices":[3]}', b'{"choices":[{"delta":{"content":3}}]}'])
def test_events_that_are_none_are_garbage(piece) -> None:
    with pytest.raises(GarbageAnswerError):
        StreamedText("m", chat=True).take(piece)


def test_an_event_with_an_error_is_that_error() -> None:
    with pytest.raises(BackendUnavailableError):
        StreamedText("m", chat=True).take(b'{"error":{"message":"EngineCore died","code":500}}')


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6), st.integers(0, 200))
def test_what_was_written_is_what_is_read(texts, generated) -> None:
    choices = [choice(text, index) for index, text in enumerate(texts)]
    usage = {"prompt_tokens": 3, "completion_tokens": generated}
    reply = read_reply("m", document(*choices[::-1], usage=usage), len(texts), chat=True)
    assert [output.text for output in reply.outputs] == texts
    assert sum(output.generated_tokens for output in reply.outputs) == generated


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(["choices", "usage", "message", "content", "finish_reason", "index", "delta", "error",
                         "prompt_tokens", "completion_tokens", "text"]),
        inner, max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON, st.booleans())
def test_nothing_that_a_server_answers_is_an_error_of_ours(value, chat) -> None:
    body = orjson.dumps(value)
    for read in (lambda: read_reply("m", body, 1, chat=chat), lambda: read_texts("m", body, chat=chat),
                 lambda: StreamedText("m", chat=chat).take(body)):  # fmt: skip
        try:
            read()
        except SafescaleError:
            continue
