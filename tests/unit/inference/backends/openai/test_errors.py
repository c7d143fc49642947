"""Error bodies of the servers as they are, and what each means."""

import email.utils
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendUnavailableError,
    PromptTooLongError,
    SafescaleError,
)
from safescale.inference.backends.openai.errors import error_in, error_of

VLLM_OLD = {
    "object": "error",
    "message": "This model's maximum context length is 2048 tokens. However, you requested 2723 tokens "
    "(1699 in the messages, 1024 in the completion). Please reduce the length of the messages or completion.",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}


def said(sentence: str, **more: object) -> dict:
    return {"error": {"message": sentence, "type": "BadRequestError", "param": None, "code": 400, **more}}


TOO_LONG = [
    (400, VLLM_OLD, 1699, 2048),
    (
        400,
        said(
            "This model's maximum context length is 16384 tokens. However, you requested 8192 output tokens and your "
            "prompt contains at least 8193 input tokens, for a total of at least 16385 tokens."
        ),
        8193,
        16384,
    ),
    (
        400,
        said(
            "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens. "
            "Please reduce the length of the input messages."
        ),
        9000,
        8192,
    ),
    (
        400,
        said(
            "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 8192 "
            "tokens and your request has 8000 input tokens (4096 > 8192 - 8000)."
        ),
        8000,
        8192,
    ),
    (
        400,
        said(
            "You passed 9001 input tokens and requested 10 output tokens. However, the model's context length is only "
            "8192 tokens, resulting in a maximum input length of 8182 tokens. Please reduce the length of the prompt."
        ),
        9001,
        8192,
    ),
    (
        400,
        said("The decoder prompt (length 12324) is longer than the maximum model length of 8192. Make sure that"),
        12324,
        8192,
    ),
    (
        400,
        {
            "object": "error",
            "message": "Requested token count exceeds the model's maximum context length of 16384 tokens. You "
            "requested a total of 17964 tokens: 1580 tokens from the input messages and 16384 tokens for the "
            "completion.",
            "type": "BadRequestError",
            "code": 400,
        },
        1580,
        16384,
    ),
    (
        400,
        said("The input (131123 tokens) is longer than the model's context length (131072 tokens)."),
        131123,
        131072,
    ),
    (400, said("Input length (9000 tokens) exceeds the maximum allowed length (8000 tokens)."), 9000, 8000),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "request (5031 tokens) exceeds the available context size (2048 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 5031,
                "n_ctx": 2048,
            }
        },
        5031,
        2048,
    ),
    (
        422,
        {
            "error": "Input validation error: `inputs` must have less than 512 tokens. Given: 631",
            "error_type": "validation",
        },
        631,
        512,
    ),
    (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1100. Given: 1090 `inputs` "
            "tokens and 20 `max_new_tokens`",
            "error_type": "validation",
        },
        1090,
        1100,
    ),
    (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 4097 tokens. However, your messages resulted in "
                "5000 tokens.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
        5000,
        4097,
    ),
]


@pytest.mark.parametrize(("status", "body", "prompt", "window"), TOO_LONG)
def test_a_prompt_over_the_window_is_told_with_both_numbers(status, body, prompt, window) -> None:
    error = error_of("m", status, {}, orjson.dumps(body))
    assert isinstance(error, PromptTooLongError)
    assert error.details == {"prompt_tokens": str(prompt), "window_tokens": str(window)}
    # As an event of a stream, too.
    assert isinstance(error_in("m", body), PromptTooLongError)


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (said("Please reduce the length", code="context_length_exceeded"), {}),
        (said("This endpoint's maximum context length is 8192 tokens."), {"window_tokens": "8192"}),
    ],
)
def test_a_prompt_over_the_window_is_known_without_its_numbers(body, details) -> None:
    error = error_of("m", 400, {}, orjson.dumps(body))
    assert isinstance(error, PromptTooLongError)
    assert error.details == details


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", BackendRefusedError),
        (401, b'{"error":"Unauthorized"}', BackendRefusedError),
        (404, b'{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","code":404}',
         BackendRefusedError),
        (422, b"Failed to deserialize the JSON body into the target type: duplicate field `max_tokens`",
         BackendRefusedError),
        (422, b'{"detail":[{"type":"missing","loc":["body","messages"]}]}', BackendRefusedError),
        (400, b'{"error":{"message":"top_k must be 0","type":"BadRequestError","param":"top_k","code":400}}',
         BackendRefusedError),
        (429, b"", BackendOverloadedError),
        (429, b'{"error":"Model is overloaded","error_type":"overloaded"}', BackendOverloadedError),
        (503, b'{"error":{"message":"The request queue is full.","code":503}}', BackendOverloadedError),
        (503, b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', BackendUnavailableError),
        (502, b"<html>Bad gateway</html>", BackendUnavailableError),
        (504, b"", BackendUnavailableError),
        (500, b'{"error":{"message":"EngineCore encountered an issue.","code":500}}', BackendUnavailableError),
    ],
)  # fmt: skip
def test_statuses_and_bodies_have_their_meaning(status, body, kind) -> None:
    assert type(error_of("m", status, {}, body)) is kind


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"Internal Server Error"),
        (424, b'{"error":"Request failed during generation: Server error: x","error_type":"generation"}'),
        (500, b'{"error":"Incomplete generation","error_type":"incomplete_generation"}'),
    ],
)
def test_a_server_that_failed_while_it_generated_is_asked_once_more(status, body) -> None:
    error = error_of("m", status, {}, body)
    assert type(error) is BackendError
    assert error.details == {"repeat": "once"}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Model is overloaded", BackendOverloadedError),
        ("Request failed during generation: Server error: injected", BackendError),
        ("Input validation error: `temperature` must be strictly positive", BackendRefusedError),
    ],
)
def test_events_of_tgi_are_told_by_their_sentence_alone(message, kind) -> None:
    assert type(error_in("m", {"error": {"message": message, "http_status_code": 422}})) is kind


def test_what_is_no_error_is_none() -> None:
    assert error_in("m", {"choices": []}) is None
    assert error_in("m", [1]) is None
    assert error_in("m", {"object": "chat.completion"}) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7", "7"), ("0.5", "0.5"), ("99999999", "3600"), ("soon", None), ("-3", None), ("", None), ("1e9", None)],
)
def test_retry_after_is_read_in_seconds(value, expected) -> None:
    error = error_of("m", 429, {"Retry-After": value}, b"")
    assert error.details.get("retry_after_s") == expected


def test_retry_after_is_read_as_a_date() -> None:
    soon = email.utils.format_datetime(email.utils.localtime().fromtimestamp(time.time() + 100).astimezone())
    assert 90 < float(error_of("m", 503, {"retry-after": soon}, b"").details["retry_after_s"]) <= 100
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert error_of("m", 429, {"retry-after": past}, b"").details["retry_after_s"] == "0"


def test_nothing_that_may_quote_the_prompt_is_told() -> None:
    body = {"error": {"message": "invalid: the patient Jane Doe", "type": "Jane Doe is the type", "code": 400}}
    error = error_of("m", 400, {}, orjson.dumps(body))
    assert "Jane" not in error.message


@given(st.integers(400, 599), st.binary(max_size=60))
def test_any_body_is_an_error_of_the_tree(status, body) -> None:
    assert isinstance(error_of("m", status, {}, body), SafescaleError)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 700) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "param", "detail", "error_type", "n_ctx", "object"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.integers(400, 599), VALUES)
def test_any_document_is_an_error_of_the_tree(status, document) -> None:
    assert isinstance(error_of("m", status, {}, orjson.dumps(document)), SafescaleError)
    found = error_in("m", document)
    assert found is None or isinstance(found, SafescaleError)
