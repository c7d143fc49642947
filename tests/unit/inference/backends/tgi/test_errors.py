"""What failures become that no recording holds: proxies before TGI, transport, and what must not be told."""

import httpx2
import pytest
from huggingface_hub.errors import InferenceTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import (
    BackendError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    GarbageAnswerError,
    PromptTooLongError,
    SafescaleError,
)
from safescale.inference.backends.tgi.errors import failure, from_client, read_error

PAGE = b"<html><body>secret of the proxy</body></html>"


@pytest.mark.parametrize(
    ("status", "error", "retryable", "once"),
    [
        (302, GarbageAnswerError, False, False),
        (400, BackendRefusedError, False, False),
        (403, BackendRefusedError, False, False),
        (404, BackendRefusedError, False, False),
        (408, BackendUnavailableError, True, False),
        (413, BackendRefusedError, False, False),
        (418, GarbageAnswerError, False, False),
        (429, BackendOverloadedError, True, False),
        (500, BackendError, False, True),
        (502, BackendUnavailableError, True, False),
        (503, BackendUnavailableError, True, False),
        (504, BackendUnavailableError, True, False),
        (529, BackendError, False, True),
    ],
)
def test_a_proxys_page_is_told_by_its_status_alone(
    status: int, error: type[SafescaleError], retryable: bool, once: bool
) -> None:
    made = failure("m", read_error(PAGE, status))
    assert type(made) is error
    assert made.retryable is retryable
    assert (made.details.get("repeat") == "once") is once
    assert "secret" not in made.message


@pytest.mark.parametrize("status", [None, 200, 422, 500, 503])
def test_the_content_decides_and_not_the_status(status: int | None) -> None:
    for content in (
        b'{"error": "Model is overloaded", "error_type": "overloaded"}',
        {"error": {"message": "Model is overloaded", "http_status_code": 422}},
        b"Model is overloaded",
    ):
        assert isinstance(failure("m", read_error(content, status)), BackendOverloadedError)


@pytest.mark.parametrize(
    "content", [b"", {}, {"error": None}, {"error": 5}, b"[1]", b"\xff", {"error": {"message": 3}}]
)
def test_an_error_without_words_is_garbage_unless_its_status_tells(content: object) -> None:
    assert isinstance(failure("m", read_error(content)), GarbageAnswerError)
    assert isinstance(failure("m", read_error(content, 503)), BackendUnavailableError)


def test_retry_after_is_handed_on_in_seconds_whether_it_is_a_number_or_a_date() -> None:
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    for value, details in (
        ("7", {"retry_after_s": "7"}), (past, {"retry_after_s": "0"}), ("soon", {}), ("-1", {}), ("", {})
    ):  # fmt: skip
        made = failure("m", read_error(b"", 429), httpx2.Headers({"Retry-After": value}))
        assert made.details == details


def test_what_a_sentence_quotes_is_not_told() -> None:
    prompts = [
        b'{"error": "Tool error: Failed to parse: \\"the patient\\"", "error_type": "tool_error"}',
        b'{"error": "Template error: near \\"the patient has", "error_type": "template_error"}',
        b'{"error": "Input validation error: invalid image ![](http://the patient)", "error_type": "validation"}',
        b'Failed to deserialize: invalid type: string "the patient", expected u32',
    ]
    for content in prompts:
        assert "the patient" not in failure("m", read_error(content, 422)).message
    assert len(failure("m", read_error(b"x" * 5000, 422)).message) < 400


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_both_sentences_of_a_prompt_too_long_tell_their_numbers(limit: int, prompt: int, new: int) -> None:
    total = (
        f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {limit}. "
        f"Given: {prompt} `inputs` tokens and {new} `max_new_tokens`"
    )
    inputs = f"Input validation error: `inputs` must have less than {limit} tokens. Given: {prompt}"
    for sentence in (total, inputs):
        made = failure("m", read_error({"error": {"message": sentence}}))
        assert isinstance(made, PromptTooLongError)
        assert (made.details["prompt_tokens"], made.details["window_tokens"]) == (str(prompt), str(limit))


@pytest.mark.parametrize(
    ("raised", "error", "sent"),
    [
        (httpx2.ConnectError("refused"), BackendUnavailableError, False),
        (httpx2.ConnectTimeout("late"), BackendUnavailableError, False),
        (httpx2.ReadError("cut"), BackendUnavailableError, True),
        (httpx2.RemoteProtocolError("Server disconnected without sending a response."), BackendUnavailableError, True),
        (httpx2.RemoteProtocolError("illegal status line: bytearray(b'SSH-2.0')"), GarbageAnswerError, True),
        (httpx2.ReadTimeout("late"), BackendTimeoutError, True),
        (ValueError("no JSON"), GarbageAnswerError, True),
        (KeyError("choices"), GarbageAnswerError, True),
    ],
)
def test_what_the_client_raises_is_of_the_tree(raised: Exception, error: type[BackendError], sent: bool) -> None:
    made = from_client("m", raised)
    assert type(made) is error
    assert (made.details.get("sent") != "no") is sent


def test_the_clients_timeout_is_told_by_what_stands_behind_it() -> None:
    for cause, error in (
        (httpx2.ReadTimeout(""), BackendTimeoutError),
        (httpx2.ConnectTimeout(""), BackendUnavailableError),
    ):
        wrapped = InferenceTimeoutError("late")
        wrapped.__cause__ = cause
        assert type(from_client("m", wrapped)) is error
