"""Single exchanges with one replica of TGI: requests, answers as read, failures as errors of the tree."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from safescale.core.errors import BackendRefusedError, BackendUnavailableError, GarbageAnswerError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.messages import chat_messages
from safescale.inference.backends.model_names import ModelNames
from safescale.inference.backends.steps import Steps
from safescale.inference.backends.tgi import wire
from safescale.inference.backends.tgi.errors import failure, read_error
from safescale.inference.backends.tgi.official_client import OfficialClient
from safescale.inference.upstream.http import model_client
from safescale.inference.upstream.replica_set import Replica
from safescale.runtime.http.client import Body, HttpAnswer, HttpOptions

GENERATE = "/generate"
GENERATE_STREAM = "/generate_stream"
CHAT = "/v1/chat/completions"
TOKENIZE = "/tokenize"
CHAT_TOKENIZE = "/chat_tokenize"
INFO = "/info"

INFO_TIMEOUT_S = 10.0

ASIDE_TIMEOUT_S = 60.0
"""Seconds for what belongs to no call: the revision, tokens, a look at an adapter."""

T = TypeVar("T")

DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Timed:
    """A whole answer, its seconds, and those until its first token where it was streamed."""

    answer: wire.TgiAnswer
    elapsed_s: float
    first_token_s: float | None = None


class TgiServer:
    """The endpoints of TGI that are used. Plain generations go through the official client."""

    def __init__(self, model: str, options: HttpOptions) -> None:
        self._model = model
        self._http = model_client(options)
        self._official = OfficialClient(model, options)
        # Those of the model that was found, under which its chat may answer; any while that is not known.
        self.names: ModelNames | None = None

    def unavailable_reason(self) -> str:
        """Return why no call can be made; asks no server."""
        return self._http.unavailable_reason()

    async def info(self, replica: Replica) -> wire.Info:
        """Return what the server says of itself. Needs no key, and is answered while the model is broken.

        Raises:
            SafescaleError: as for all methods here; see `tgi.errors.failure`.

        """
        return (await self.info_and_limit(replica))[0]

    async def info_and_limit(self, replica: Replica) -> tuple[wire.Info, int]:
        """Return what the server says of itself, and the concurrent requests above which it refuses; 0 if unknown."""
        answer = await self._http.get(replica.url + INFO, INFO_TIMEOUT_S)
        if answer.status in (401, 403):
            raise BackendRefusedError(
                f"TGI of {self._model}, HTTP {answer.status}: {INFO} is refused, which TGI itself tells everybody, so "
                "a proxy before it hides it: let it pass, or name the key that the proxy wants (field api_key_file of "
                "the row)"
            )
        value = self._read(answer)
        return wire.info(value), wire.most_at_once(value)

    async def tokens(self, replica: Replica, text: str, timeout_s: float) -> tuple[wire.Token, ...]:
        """Return the tokens of a text as `/generate` reads it. Nothing is truncated here, whatever the flags."""
        return wire.tokens(await self.post(replica, TOKENIZE, {"inputs": text}, timeout_s))

    async def rendered(
        self, replica: Replica, messages: Messages, served_model: str, timeout_s: float
    ) -> wire.Rendered:
        """Render messages by the server's chat template."""
        body = {"model": served_model, "messages": chat_messages(messages)}
        return wire.rendered(await self.post(replica, CHAT_TOKENIZE, body, timeout_s))

    async def generate(self, replica: Replica, body: Mapping[str, Any], timeout_s: float) -> Timed:
        """Return a plain answer of `/generate`."""
        begin = time.perf_counter()
        value = self._no_error(await self._official.generate(replica, body, timeout_s))
        return Timed(wire.generated(value), time.perf_counter() - begin)

    async def chat(self, replica: Replica, body: Mapping[str, Any], timeout_s: float) -> Timed:
        """Return a plain answer of the chat."""
        begin = time.perf_counter()
        value = self._no_error(await self._official.chat(replica, body, timeout_s))
        self._check_named(value)
        return Timed(wire.chat(value), time.perf_counter() - begin)

    async def prefill(
        self, replica: Replica, text: str, served_model: str, timeout_s: float
    ) -> tuple[list[wire.Prefilled], float]:
        """Return the prompt's tokens with their log-probabilities, and the seconds of the exchange."""
        begin = time.perf_counter()
        body = wire.score_body(text, served_model)
        value = self._no_error(await self._official.generate(replica, body, timeout_s))
        return wire.prefill(value), time.perf_counter() - begin

    async def streamed(self, replica: Replica, path: str, body: Mapping[str, Any], timeout_s: float) -> Timed:
        """Return a streamed answer when it is complete."""
        begin = time.perf_counter()
        first: float | None = None
        answer: wire.TgiAnswer | None = None
        async with aclosing(self.stream(replica, path, body, timeout_s)) as events:
            async for event in events:
                if isinstance(event, wire.TgiAnswer):
                    answer = event
                elif first is None:
                    first = time.perf_counter() - begin
        return Timed(self.whole(answer), time.perf_counter() - begin, first)

    async def stream(
        self, replica: Replica, path: str, body: Body, timeout_s: float
    ) -> AsyncGenerator[wire.Piece | wire.TgiAnswer]:
        """Yield the tokens of a streamed answer as they come, then the whole. The status is 200 whatever happens."""
        reader = wire.GenerateEvents() if path == GENERATE_STREAM else wire.ChatEvents()
        async with self._http.stream(replica.url + path, body, timeout_s) as response:
            if response.status != 200:
                raise failure(self._model, read_error(await response.body(), response.status), response.headers)
            if not await response.is_events():
                # A proxy, or the server itself, gave an error, a page or the whole answer instead.
                yield self._whole_of(path, await response.body())
                return
            async for data in response.events():
                if data == DONE:
                    continue
                event = wire.document(data)
                if isinstance(event, Mapping) and event.get("error") is not None:
                    raise failure(self._model, read_error(event))
                if path == CHAT:
                    self._check_named(event)
                if (piece := reader.take(event)) is not None:
                    yield piece
        yield self.whole(reader.answer())

    async def run(self, replica: Replica, steps: Steps[T]) -> T:
        """Hold a conversation to its end."""
        try:
            ask = next(steps)
            while True:
                ask = steps.send(await self.post(replica, ask.path, ask.body, ASIDE_TIMEOUT_S))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def post(self, replica: Replica, path: str, body: Body, timeout_s: float) -> Any:
        """Post JSON to a path and return the JSON of its answer."""
        return self._read(await self._http.post_json(replica.url + path, body, timeout_s))

    def _read(self, answer: HttpAnswer) -> Any:
        if answer.status != 200:
            raise failure(self._model, read_error(answer.body, answer.status), answer.headers)
        return self._no_error(wire.document(answer.body))

    def _no_error(self, value: Any) -> Any:
        """Return a value that came with status 200, unless it reports an error."""
        if isinstance(value, Mapping) and value.get("error") is not None:
            raise failure(self._model, read_error(dict(value)))
        return value

    def _check_named(self, value: Any) -> None:
        if self.names is not None and isinstance(value, Mapping):
            self.names.check(self._model, wire.answered_by(value))

    def _whole_of(self, path: str, body: bytes) -> wire.TgiAnswer:
        """Read the answer of a server that does not stream. Only chats report the tokens of the prompt."""
        if body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            raise GarbageAnswerError(f"the server of {self._model} gave a page (HTML) where an answer was expected")
        value = self._no_error(wire.document(body))
        if path == GENERATE_STREAM:
            return wire.generated(value)
        self._check_named(value)
        return wire.chat(value)

    def whole(self, answer: wire.TgiAnswer | None) -> wire.TgiAnswer:
        """Return the answer of a stream that ended.

        Raises:
            BackendUnavailableError: it ended before the answer was whole.

        """
        if answer is None:
            raise BackendUnavailableError(f"the stream from TGI of {self._model} ended before the answer was whole")
        return answer

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()
        await self._official.close()
