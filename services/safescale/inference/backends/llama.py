"""One llama.cpp server in this process, through xllamacpp: blocking calls, strict reading of its answers.

A call belongs to one thread at a time. `cold` calls evaluate the whole prompt anew; the others use what the slot holds
of it. The slot's state decides the last digits of a log-probability, hence the cache rule of `embedded`.
"""

import http.client
import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safescale.core.errors import (
    BackendError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnavailableError,
    GarbageAnswerError,
    PromptTooLongError,
    SafescaleError,
)
from safescale.core.prompts import Messages
from safescale.inference.backends.grammar import Token, forcing_grammar, stand_alone
from safescale.inference.backends.llama_stream import Collected, Collector
from safescale.inference.backends.port import Sampling

HTTP_TIMEOUT_S = 60.0
BATCH_TOKENS = 256
DEPTHS = (4096, 10_000_000)
"""Lengths of the list of most probable tokens that are tried; the second is any vocabulary."""


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
        import xllamacpp

        self._config = config
        self._key = secrets.token_urlsafe(32)
        try:
            self._server = xllamacpp.Server(_parameters(config, self._key))
        except RuntimeError as error:
            raise BackendError(
                f"the model {config.model} could not be loaded from {config.path.name}: "
                "the file is damaged or of a kind that this llama.cpp does not know"
            ) from error
        self._address = str(self._server.listening_address)

    def text(
        self,
        messages: Messages,
        sampling: Sampling,
        *,
        cold: bool,
        stop: threading.Event,
        on_piece: Callable[[str], None] | None = None,
    ) -> Collected:
        """One text, collected as it comes; `stop` ends it at its next token or batch of the prompt.

        Raises:
            BackendTimeoutError: `stop` was set.
            PromptTooLongError: the prompt is over the context.
            BackendError: of any other kind.

        """
        body = self._body(messages, sampling, cold)
        # Progress comes as chunks after each batch of the prompt: the callback can end the call there.
        body.update(stream=True, stream_options={"include_usage": True}, return_progress=True)
        collector = Collector(chat=self._config.instruct, stop=stop, on_piece=on_piece)
        begin = time.perf_counter()
        self._handle(body, collector, chat=self._config.instruct)
        if collector.refusal is not None:
            raise self._error(collector.refusal)
        if stop.is_set():
            raise BackendTimeoutError(f"the call to {self._config.model} was given up")
        return collector.result(begin, time.perf_counter())

    def prime(self, messages: Messages, stop: threading.Event) -> Collected:
        """Evaluate a prompt cold (and one token), so that the slot holds it whatever was there before."""
        return self.text(messages, Sampling(0.0, 1), cold=True, stop=stop)

    def forced(self, messages: Messages, primed: Collected, tokens: Sequence[Token]) -> list[float]:
        """Log-probabilities (natural) of these tokens after a primed prompt, by the model's own distribution.

        A grammar leaves one token at each place; the log-probabilities are those before the grammar.
        """
        alone = stand_alone(tokens)
        if not all(alone):
            return self._stepwise(messages, primed, tokens, alone)
        body = self._body(messages, Sampling(0.0, len(tokens)), cold=False)
        body["grammar"] = forcing_grammar(tokens)
        body.update({"logprobs": True, "top_logprobs": 1} if self._config.instruct else {"logprobs": 1})
        steps = self._steps(self._ask(body, chat=self._config.instruct))[: len(tokens)]
        if [token for token, _ in steps] != [token for token, _ in tokens]:
            raise GarbageAnswerError(f"{self._config.model} wrote other tokens than those forced")
        return [value for _, value in steps]

    def _stepwise(
        self, messages: Messages, primed: Collected, tokens: Sequence[Token], alone: Sequence[bool]
    ) -> list[float]:
        """As `forced`, one call per token: llama.cpp does not tell tokens that end within a character.

        The tokens before stand in the prompt. One that cannot be forced is looked up in the list of the most probable
        ones, which goes on to the whole vocabulary where it must.
        """
        prompt = self._rendered(messages)
        values = []
        for index, (token, _) in enumerate(tokens):
            body = self._completion([prompt, *(before for before, _ in tokens[:index])], Sampling(0.0, 1), cold=False)
            depths: tuple[int, ...] = DEPTHS
            if alone[index]:
                body["grammar"], depths = forcing_grammar([tokens[index]]), (1,)
            found: dict[int, float] = {}
            for depth in depths:
                answer = self._ask({**body, "logprobs": depth}, chat=False)
                if _field(answer, "usage", "prompt_tokens") != primed.prompt_tokens + index:
                    raise GarbageAnswerError(f"{self._config.model} read another prompt than the one primed")
                found = dict(self._steps(answer, listed=not alone[index]))
                if token in found:
                    break
            if token not in found:
                raise GarbageAnswerError(f"{self._config.model} gave no log-probability of a token")
            values.append(found[token])
        return values

    def _steps(self, answer: Mapping[str, Any], *, listed: bool = False) -> list[tuple[int, float]]:
        """Tokens and log-probabilities that an answer tells: of the tokens written, or those listed for the first."""
        steps = _field(answer, "choices", 0, "logprobs", "content")
        if listed:
            steps = _field(steps, 0, "top_logprobs")
        try:
            # Rounding can put the log-probability of a certain token a hair above 0.
            found = [(int(step["id"]), min(float(step["logprob"]), 0.0)) for step in steps]
        except (TypeError, KeyError, ValueError) as error:
            raise GarbageAnswerError(f"{self._config.model} gave no log-probabilities") from error
        if any(math.isnan(value) for _, value in found):
            raise GarbageAnswerError(f"{self._config.model} gave a log-probability that is not a number")
        return found

    def _rendered(self, messages: Messages) -> str:
        if not self._config.instruct:
            return str(self._prompt(messages))
        connection = self._connection()
        try:
            answer = self._post(connection, "/apply-template", {"messages": self._chat(messages)})
        except (OSError, http.client.HTTPException) as error:
            raise BackendUnavailableError(f"the chat template of {self._config.model} does not answer") from error
        finally:
            connection.close()
        prompt = _field(answer, "prompt")
        if not isinstance(prompt, str):
            raise GarbageAnswerError(f"{self._config.model} gave no rendered prompt")
        return prompt

    def pieces(self, texts: Sequence[str]) -> list[list[Token]]:
        """Tokens of each text: ids and bytes. Marks of control tokens are read as plain text. Safe from any thread.

        Raises:
            BackendUnavailableError: the listener does not answer.
            GarbageAnswerError: the tokens do not add up to the text.

        """
        connection = self._connection()
        try:
            return [self._pieces(connection, text) for text in texts]
        except (OSError, http.client.HTTPException) as error:
            raise BackendUnavailableError(f"the tokenizer of {self._config.model} does not answer") from error
        finally:
            connection.close()

    def _pieces(self, connection: http.client.HTTPConnection, text: str) -> list[Token]:
        if not text:
            return []
        body = {"content": text, "add_special": False, "parse_special": False, "with_pieces": True}
        tokens = _field(self._post(connection, "/tokenize", body), "tokens")
        try:
            found = [(int(token["id"]), _bytes(token["piece"])) for token in tokens]
        except (ValueError, KeyError, TypeError) as error:
            raise GarbageAnswerError(f"the tokenizer of {self._config.model} gave no tokens") from error
        return _aligned(found, text, self._config.model)

    def _connection(self) -> http.client.HTTPConnection:
        place = urlsplit(self._address)
        return http.client.HTTPConnection(place.hostname or "", place.port, timeout=HTTP_TIMEOUT_S)

    def _post(self, connection: http.client.HTTPConnection, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body).encode(), headers)
        data = connection.getresponse().read()
        try:
            return json.loads(data)
        except ValueError as error:
            raise GarbageAnswerError(f"{self._config.model} gave no JSON at {path}") from error

    def _body(self, messages: Messages, sampling: Sampling, cold: bool) -> dict[str, Any]:
        if not self._config.instruct:
            return self._completion(self._prompt(messages), sampling, cold)
        return {**_drawing(sampling, cold), "messages": self._chat(messages)}

    def _completion(self, prompt: str | list[str | int], sampling: Sampling, cold: bool) -> dict[str, Any]:
        return {**_drawing(sampling, cold), "prompt": prompt}

    def _chat(self, messages: Messages) -> list[dict[str, str]]:
        system = [{"role": "system", "content": messages.system}] if messages.system else []
        return [*system, {"role": "user", "content": messages.user}]

    def _prompt(self, messages: Messages) -> str:
        return "\n\n".join(part for part in (messages.system, messages.user) if part)

    def _handle(self, body: dict[str, Any], callback: Callable[[Any], bool] | None, *, chat: bool) -> Any:
        server = self._server
        handle = server.handle_chat_completions if chat else server.handle_completions
        try:
            return handle(body, callback) if callback is not None else handle(body)
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"llama.cpp gave up a call to {self._config.model}") from error

    def _ask(self, body: dict[str, Any], *, chat: bool) -> Mapping[str, Any]:
        answer = self._handle(body, None, chat=chat)
        if not isinstance(answer, dict):
            raise GarbageAnswerError(f"{self._config.model} gave no JSON object")
        if "error" in answer:
            raise self._error(answer["error"])
        return answer

    def _error(self, error: object) -> SafescaleError:
        values: Mapping[str, Any] = error if isinstance(error, dict) else {}
        model = self._config.model
        if values.get("type") == "exceed_context_size_error":
            return too_long(model, values.get("n_prompt_tokens", 0), values.get("n_ctx", self._config.n_ctx))
        # The server's own sentence can quote the prompt, so only its kind is told.
        kind = str(values.get("type", "unknown"))
        if values.get("code") == 400:
            return BackendRefusedError(f"llama.cpp refused a call to {model} ({kind})")
        return BackendError(f"llama.cpp failed in a call to {model} ({kind})")


def too_long(model: str, prompt_tokens: int, window_tokens: int) -> PromptTooLongError:
    """The error of a prompt over the context, with both numbers."""
    return PromptTooLongError(
        f"the prompt has {prompt_tokens:,} tokens; the context window of {model} holds {window_tokens:,}",
        details={"prompt_tokens": str(prompt_tokens), "window_tokens": str(window_tokens)},
    )


def _drawing(sampling: Sampling, cold: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_new_tokens,
        "cache_prompt": not cold,
    }
    if not sampling.greedy:
        # The model's own distribution: llama.cpp would cut it by default (top_k, top_p, min_p).
        body.update(seed=sampling.seed, top_k=0, top_p=1.0, min_p=0.0)
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _parameters(config: LlamaConfig, key: str) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(config.path)
    parameters.model_alias = {config.model}
    parameters.n_ctx = config.n_ctx
    parameters.n_parallel = 1
    # One thread: with more, a busy neighbour makes them wait for each other and a call ten times slower.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    # A call can be ended between batches; larger ones are no faster on a CPU.
    parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
    parameters.fit_params = False
    parameters.verbosity = 0
    # Nothing of earlier prompts may come back but what the slot itself holds.
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0
    parameters.swa_full = True
    # An HTTP listener always opens; it serves the tokenizer to us and no one else.
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.ui = parameters.endpoint_slots = parameters.endpoint_metrics = False
    parameters.n_threads_http = 2
    return parameters


def _field(value: Any, *path: str | int) -> Any:
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _bytes(piece: object) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)  # type: ignore[call-overload]


def _aligned(found: list[Token], text: str, model: str) -> list[Token]:
    joined = b"".join(piece for _, piece in found)
    wanted = text.encode()
    if joined == b" " + wanted and found:
        # Some tokenizers put a blank before every text.
        return [(found[0][0], found[0][1][1:]), *found[1:]]
    if joined != wanted:
        raise GarbageAnswerError(f"the tokens of {model} do not add up to the text")
    return found
