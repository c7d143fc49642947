"""Single exchanges with one replica of TGI: what is asked, the answer as read, failures as errors of the tree."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from safescale.core.errors import BackendUnavailableError, GarbageAnswerError
from safescale.core.prompts import Messages
from safescale.inference.backends import tgi_wire as wire
from safescale.inference.backends.messages import chat_messages
from safescale.inference.backends.tgi_errors import failure, said
from safescale.inference.backends.tgi_official import OfficialClient
from safescale.inference.endpoints import Replica
from safescale.inference.http import Body, HttpAnswer, HttpClient, HttpOptions

GENERATE = "/generate"
GENERATE_STREAM = "/generate_stream"
CHAT = "/v1/chat/completions"
TOKENIZE = "/tokenize"
CHAT_TOKENIZE = "/chat_tokenize"
INFO = "/info"

INFO_TIMEOUT_S = 10.0
DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Timed:
    """A whole answer, its seconds, and those until its first token where it was streamed."""

    answer: wire.Answer
    elapsed_s: float
    first_token_s: float | None = None


class TgiServer:
    """The endpoints of TGI that are used. Plain generations go through the official client."""

    def __init__(self, model: str, options: HttpOptions) -> None:
        self._model = model
        self._http = HttpClient(options)
        self._official = OfficialClient(model, options)

    def unavailable_reason(self) -> str:
        """Why no call can be made; asks no server."""
        return self._http.unavailable_reason()

    async def info(self, replica: Replica) -> wire.Info:
        """What the server tells of itself. Needs no key, and is answered while the model is broken.

        Raises:
            SafescaleError: as for all methods here; see `tgi_errors.failure`.

        """
        return wire.info(self._read(await self._http.get(replica.url + INFO, INFO_TIMEOUT_S)))

    async def tokens(self, replica: Replica, text: str, timeout_s: float) -> tuple[wire.Token, ...]:
        """The tokens of a text as `/generate` reads it. The server truncates nothing here, whatever it is told."""
        return wire.tokens(await self.post(replica, TOKENIZE, {"inputs": text}, timeout_s))

    async def rendered(
        self, replica: Replica, messages: Messages, served_model: str, timeout_s: float
    ) -> wire.Rendered:
        """The messages through the server's chat template."""
        body = {"model": served_model, "messages": chat_messages(messages)}
        return wire.rendered(await self.post(replica, CHAT_TOKENIZE, body, timeout_s))

    async def generate(self, replica: Replica, body: Mapping[str, Any], timeout_s: float) -> Timed:
        """A plain answer of `/generate`."""
        begin = time.perf_counter()
        value = await self._official.generate(replica, body, timeout_s)
        return Timed(wire.generated(value), time.perf_counter() - begin)

    async def chat(self, replica: Replica, body: Mapping[str, Any], timeout_s: float) -> Timed:
        """A plain answer of the chat."""
        begin = time.perf_counter()
        value = await self._official.chat(replica, body, timeout_s)
        return Timed(wire.chat(value), time.perf_counter() - begin)

    async def prefill(
        self, replica: Replica, text: str, served_model: str, timeout_s: float
    ) -> tuple[list[wire.Prefilled], float]:
        """The prompt's tokens with their log-probabilities, and the seconds of the exchange."""
        begin = time.perf_counter()
        value = await self._official.generate(replica, wire.score_body(text, served_model), timeout_s)
        return wire.prefill(value), time.perf_counter() - begin

    async def streamed(self, replica: Replica, path: str, body: Mapping[str, Any], timeout_s: float) -> Timed:
        """A streamed answer when it is whole."""
        begin = time.perf_counter()
        first: float | None = None
        answer: wire.Answer | None = None
        async with aclosing(self.stream(replica, path, body, timeout_s)) as events:
            async for event in events:
                if isinstance(event, wire.Answer):
                    answer = event
                elif first is None:
                    first = time.perf_counter() - begin
        return Timed(self.whole(answer), time.perf_counter() - begin, first)

    async def stream(
        self, replica: Replica, path: str, body: Body, timeout_s: float
    ) -> AsyncGenerator[wire.Piece | wire.Answer]:
        """The tokens of a streamed answer as they come, then the whole. The status is 200 whatever happens."""
        reader = wire.GenerateEvents() if path == GENERATE_STREAM else wire.ChatEvents()
        async with self._http.stream(replica.url + path, body, timeout_s) as response:
            if response.status != 200:
                raise failure(self._model, said(await response.body(), response.status), response.headers)
            if "text/event-stream" not in response.headers.get("Content-Type", ""):
                raise GarbageAnswerError(f"the server of {self._model} answered no event stream")
            async for data in response.events():
                if data == DONE:
                    continue
                event = wire.document(data)
                if isinstance(event, Mapping) and event.get("error") is not None:
                    raise failure(self._model, said(event))
                if (piece := reader.take(event)) is not None:
                    yield piece
        yield self.whole(reader.answer())

    async def post(self, replica: Replica, path: str, body: Body, timeout_s: float) -> Any:
        """The JSON that a path answers."""
        return self._read(await self._http.post_json(replica.url + path, body, timeout_s))

    def _read(self, answer: HttpAnswer) -> Any:
        if answer.status != 200:
            raise failure(self._model, said(answer.body, answer.status), answer.headers)
        value = wire.document(answer.body)
        if isinstance(value, Mapping) and value.get("error") is not None:
            raise failure(self._model, said(value))
        return value

    def whole(self, answer: wire.Answer | None) -> wire.Answer:
        """The answer of a stream that ended.

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
