"""Exchanges with one OpenAI-compatible server: whole answers, streams, conversations; its errors as our errors."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from safescale.core.errors import GarbageAnswerError
from safescale.inference.backends.llama.stream import Collected
from safescale.inference.backends.messages import CHAT, COMPLETIONS
from safescale.inference.backends.model_names import ModelNames
from safescale.inference.backends.openai.errors import error_in, error_of
from safescale.inference.backends.openai.wire import Reply, StreamedText, answered_by, parsed, read_reply, read_texts
from safescale.inference.backends.port import Call
from safescale.inference.backends.steps import Steps
from safescale.inference.upstream.replica_set import Replica
from safescale.runtime.http.client import HttpAnswer, HttpClient

T = TypeVar("T")


class OpenAIClient:
    """Asks servers of one model. What each method raises is a SafescaleError."""

    def __init__(self, model: str, http: HttpClient) -> None:
        self._model = model
        self._http = http

    async def reply(
        self, replica: Replica, path: str, body: bytes, count: int, timeout_s: float
    ) -> tuple[Reply, float]:
        """Return the outputs of one call for `count` texts, and its seconds."""
        answer = await self._http.post_json(replica.url + path, body, timeout_s)
        if answer.status != 200:
            raise self._error(answer)
        return read_reply(self._model, answer.body, count, chat=path == CHAT), answer.elapsed_s

    async def streamed(
        self,
        replica: Replica,
        path: str,
        body: bytes,
        timeout_s: float,
        on_piece: Callable[[str], None] | None = None,
        *,
        reuse: bool,
    ) -> Collected:
        """Return one text, collected as it comes. `reuse`: whether the connection can be used again after it."""
        text = StreamedText(self._model, chat=path == CHAT)
        begin = time.perf_counter()
        first = 0.0
        async with self._http.stream(replica.url + path, body, timeout_s, reuse=reuse) as stream:
            if stream.status != 200:
                raise error_of(self._model, stream.status, stream.headers, await stream.body())
            if not await stream.is_events():
                # A proxy or the server itself gave an error, a page or the whole answer instead.
                piece = text.take_whole(await stream.body())
                if piece and on_piece is not None:
                    on_piece(piece)
            # Read to the end: a connection with unread bytes could not be used again.
            async for event in stream.events():
                piece = text.take(event)
                if not first and text.begun:
                    first = time.perf_counter()
                if piece and on_piece is not None:
                    on_piece(piece)
        end = time.perf_counter()
        return text.result(end - begin, (first or end) - begin)

    async def texts(self, replica: Replica, path: str, body: bytes, timeout_s: float) -> list[str]:
        """Return the texts of one call, however many the server gives."""
        answer = await self._http.post_json(replica.url + path, body, timeout_s)
        if answer.status != 200:
            raise self._error(answer)
        return read_texts(self._model, answer.body, chat=path == CHAT)

    async def get_json(self, replica: Replica, path: str, timeout_s: float) -> Any:
        """Get the JSON at a path; None where the server has no such path or gives no JSON.

        Raises:
            BackendError: it refuses, or fails.

        """
        answer = await self._http.get(replica.url + path, timeout_s)
        if answer.status in (404, 405, 501):
            return None
        if answer.status != 200:
            raise self._error(answer)
        try:
            return parsed(self._model, answer.body)
        except GarbageAnswerError:
            return None

    async def wants_key(self, replica: Replica, path: str, timeout_s: float) -> bool:
        """Return whether an empty request is refused for its key, not for what it lacks."""
        answer = await self._http.post_json(replica.url + path, b"{}", timeout_s)
        return answer.status in (401, 403)

    async def run(
        self, replica: Replica, steps: Steps[T], timeout_s: float, names: ModelNames | None = None
    ) -> tuple[T, float]:
        """Hold a conversation to its end, with `names` by that model alone. The seconds are of its last exchange."""
        seconds = 0.0
        try:
            ask = next(steps)
            while True:
                answer = await self._http.post_json(replica.url + ask.path, ask.body, timeout_s)
                seconds = answer.elapsed_s
                if answer.status != 200:
                    raise self._error(answer)
                document = parsed(self._model, answer.body)
                if (told := error_in(self._model, document)) is not None:
                    raise told
                if names is not None and ask.path in (CHAT, COMPLETIONS):
                    names.check(self._model, answered_by(document))
                ask = steps.send(document)
        except StopIteration as end:
            return end.value, seconds

    def _error(self, answer: HttpAnswer) -> Exception:
        if 200 <= answer.status < 400:
            return GarbageAnswerError(f"the server of {self._model} answered with status {answer.status}")
        return error_of(self._model, answer.status, answer.headers, answer.body)


def left(call: Call) -> float:
    """Return the seconds that an exchange which begins now may take."""
    return min(call.timeout_s, call.deadline - time.monotonic())


async def all_or_none(*work: Any) -> list[Any]:
    """Return the results of concurrent work; the first failure cancels the others and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
