"""One llama.cpp server in this process, through xllamacpp: blocking calls. `llama.protocol` makes the requests.

A call belongs to one thread at a time; the tokenizer may be asked from any.
"""

import http.client
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from safescale.core.errors import (
    BackendError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    GarbageAnswerError,
    SafescaleError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.checks import check_whole
from safescale.inference.backends.llama.protocol import LlamaProtocol, refused_length
from safescale.inference.backends.llama.stream import Collected, Collector
from safescale.inference.backends.messages import CHAT, COMPLETIONS
from safescale.inference.backends.port import Sampling
from safescale.inference.backends.steps import Ask, Steps

HTTP_TIMEOUT_S = 60.0
BATCH_TOKENS = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """What a server is opened with: the weights, the context in tokens, whether there is a chat template."""

    model: str
    path: Path
    n_ctx: int
    instruct: bool


class LlamaServer:
    """A loaded model with one slot and one thread. Opening blocks until the model is there."""

    def __init__(self, config: LlamaConfig) -> None:
        self._config = config
        self._key = secrets.token_urlsafe(32)
        self._server = opened(config, _private(config, self._key))
        self._address = str(self._server.listening_address)
        self.protocol = LlamaProtocol(config.model, config.instruct)

    def text(
        self,
        messages: Messages,
        sampling: Sampling,
        *,
        cold: bool,
        stop: threading.Event,
        on_piece: Callable[[str], None] | None = None,
    ) -> Collected:
        """Generate one text, collected as it comes; `stop` ends it at its next token or batch of the prompt.

        Raises:
            BackendTimeoutError: `stop` was set.
            PromptTooLongError: the prompt is over the context.
            AnswerCutError: the context ended before the answer.
            BackendError: of any other kind.

        """
        ask = self.protocol.ask(messages, sampling, cold=cold)
        # Progress comes as chunks after each batch of the prompt: the callback can end the call there.
        ask.body.update(stream=True, stream_options={"include_usage": True}, return_progress=True)
        collector = Collector(chat=self._config.instruct, stop=stop, on_piece=on_piece)
        begin = time.perf_counter()
        self._handle(ask, collector)
        if collector.refusal is not None:
            raise self._error(collector.refusal)
        if stop.is_set():
            raise self._given_up()
        text = collector.result(begin, time.perf_counter())
        check_whole(self._config.model, [text.output], sampling.max_new_tokens)
        return text

    def prime(self, messages: Messages, stop: threading.Event) -> Collected:
        """Evaluate a prompt cold (and one token), so that the slot holds it whatever was there before."""
        return self.text(messages, Sampling(0.0, 1), cold=True, stop=stop)

    def run(self, steps: Steps[T], stop: threading.Event) -> T:
        """Hold a conversation to its end; `stop` ends it before its next exchange.

        Raises:
            BackendTimeoutError: `stop` was set.
            BackendUnavailableError: the listener does not answer.
            BackendError: of any other kind.

        """
        connection: http.client.HTTPConnection | None = None
        try:
            ask = next(steps)
            while True:
                if stop.is_set():
                    raise self._given_up()
                if ask.path in (CHAT, COMPLETIONS):
                    answer = self._ask(ask)
                else:
                    connection = connection or self._connection()
                    answer = self._post(connection, ask)
                ask = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            if connection is not None:
                connection.close()

    def _given_up(self) -> BackendTimeoutError:
        return BackendTimeoutError(f"the call to {self._config.model} was given up")

    def _connection(self) -> http.client.HTTPConnection:
        place = urlsplit(self._address)
        return http.client.HTTPConnection(place.hostname or "", place.port, timeout=HTTP_TIMEOUT_S)

    def _post(self, connection: http.client.HTTPConnection, ask: Ask) -> Any:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", ask.path, json.dumps(ask.body).encode(), headers)
            data = connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise BackendUnavailableError(f"{self._config.model} does not answer at {ask.path}") from error
        try:
            return json.loads(data)
        except ValueError as error:
            raise GarbageAnswerError(f"{self._config.model} gave no JSON at {ask.path}") from error

    def _handle(self, ask: Ask, callback: Callable[[Any], bool] | None) -> Any:
        server = self._server
        handle = server.handle_chat_completions if ask.path == CHAT else server.handle_completions
        try:
            return handle(ask.body, callback) if callback is not None else handle(ask.body)
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"llama.cpp gave up a call to {self._config.model}") from error

    def _ask(self, ask: Ask) -> Mapping[str, Any]:
        answer = self._handle(ask, None)
        if not isinstance(answer, dict):
            raise GarbageAnswerError(f"{self._config.model} gave no JSON object")
        if "error" in answer:
            raise self._error(answer["error"])
        return answer

    def _error(self, error: object) -> SafescaleError:
        values: Mapping[str, Any] = error if isinstance(error, dict) else {}
        model = self._config.model
        if too_long := refused_length(model, values, self._config.n_ctx):
            return too_long
        # The server's own sentence can quote the prompt, so only its kind is told.
        kind = str(values.get("type", "unknown"))
        if values.get("code") == 400:
            return BackendRefusedError(f"llama.cpp refused a call to {model} ({kind})")
        return BackendError(f"llama.cpp failed in a call to {model} ({kind})")


def opened(config: LlamaConfig, parameters: Any) -> Any:
    """Load a `xllamacpp.Server`; block until the model is there.

    Raises:
        BackendError: the model could not be loaded, or its address is taken: llama.cpp does not say which.

    """
    import xllamacpp

    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise BackendError(
            f"the model {config.model} could not be loaded from {config.path.name}: "
            "the file is damaged or of a kind that this llama.cpp does not know"
        ) from error


def llama_parameters(config: LlamaConfig) -> Any:
    """Return parameters (`xllamacpp.CommonParams`) that give a model the same digits wherever it is opened.

    One slot and one thread: with two of either a token's log-probability differs in its second digit already. A busy
    neighbour would besides make threads wait for each other.
    """
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(config.path)
    parameters.model_alias = {config.model}
    parameters.n_ctx = config.n_ctx
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    # A call can be ended between batches; larger ones are no faster on a CPU.
    parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
    parameters.fit_params = False
    parameters.verbosity = 0
    # Nothing of earlier prompts may come back but what the slot itself holds.
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0
    parameters.swa_full = True
    parameters.ui = False
    # Pages of any site could ask it, else.
    parameters.cors_origins = ""
    return parameters


def _private(config: LlamaConfig, key: str) -> Any:
    parameters = llama_parameters(config)
    # An HTTP listener always opens; it serves the tokenizer to us and no one else.
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.endpoint_slots = parameters.endpoint_metrics = False
    parameters.n_threads_http = 2
    return parameters
