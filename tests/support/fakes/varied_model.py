"""A model whose answers vary in form, a judge, and a server of vectors: all deterministic, none with weights."""

import asyncio
import hashlib
import json
import threading
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

import numpy as np
from aiohttp import web
from tests.support.fakes.embeddings import EmbeddingsServer, served
from tests.support.fakes.scripted_server import ScriptedServer, streamed, whole

T = TypeVar("T")

MODEL = "m"
JUDGE = "j"
DIMENSION = 8
TIMEOUT_S = 30
LETTERS = "ABCD"
FORMS = (
    "{0}", "{0}", "{0}", "The answer is {0}.", "**{0}**",
    "Several findings fit, and I cannot choose between them.",
    "On balance I lean towards option {0}, though {1} is close.",
)  # fmt: skip
PLAIN = ("{0}", "**{0}**")
"""Forms that the strict parser reads."""


def number(*parts: object) -> int:
    """A number that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:6], "big")


def varied_text(forms: Sequence[str], prompt: str, *seeds: object) -> str:
    """An answer to a prompt: a letter, a sentence, or no choice at all."""
    drawn = number(prompt, "letter", *seeds)
    first, second = LETTERS[drawn % 4], LETTERS[(drawn + 1) % 4]
    return forms[number(prompt, "form", *seeds) % len(forms)].format(first, second)


def judge_reply(prompt: str) -> str:
    """What the judge says of a text: its letter, or that there is none. One text in three leaves it speechless."""
    text = prompt.rsplit("\n=====", 1)[0].rsplit("=====\n", 1)[1].strip()
    if number(text) % 3 == 0:
        return "I would rather not say."
    chosen = [letter for letter in LETTERS if f"option {letter}" in text]
    reply = {"clear_selection": "yes" if chosen else "no", "reasoning": text[:40]}
    return json.dumps({**reply, "confirmed_answer": chosen[0] if chosen else None})


async def vectors(texts: Sequence[str]) -> np.ndarray:
    """Vectors that count words."""
    rows = np.ones((len(texts), DIMENSION), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            rows[row, number(word) % DIMENSION] += 1
    return rows


class VariedModel:
    """The models `m` and `j` and the vectors at two addresses of loopback, served by a thread of its own.

    Prompts that hold one of `refused` are refused. After `answers` more answers, where that is set, none comes; each
    takes `seconds` and has one of `forms`.
    """

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.answers: int | None = None
        self.seconds = 0.0
        self.forms: Sequence[str] = FORMS
        self.server = ScriptedServer()
        self.server.told["/v1/models"] = {"data": [{"id": name, "object": "model"} for name in (MODEL, JUDGE)]}
        self.server.answer = self._answer
        self.embeddings_url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    async def _start(self) -> None:
        await self._stack.enter_async_context(self.server)
        server = EmbeddingsServer(vectors, lambda text: len(text.split()))
        self.embeddings_url = await self._stack.enter_async_context(served(server))

    async def _stop(self) -> None:
        await self._stack.aclose()
        # Calls that never had their answer.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self._wait(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def asked(self) -> list[str]:
        """Prompts of the model that is measured, one for each call."""
        return [_prompt(body) for body in self.server.asked if body["model"] == MODEL]

    def catalog(self) -> str:
        """Rows of both models, in YAML (JSON is YAML). One call at a time, so that the order of cells is that asked."""
        endpoint = {"urls": [self.server.url], "concurrency": 1}
        row = {
            "family": "test", "parameters_b": 1, "window_tokens": 6000, "instruct": True, "backend": "openai",
            "license": "none", "endpoint": endpoint,
        }  # fmt: skip
        return json.dumps({"models": [{"id": name, **row} for name in (MODEL, JUDGE)]})

    async def _answer(self, body: Any) -> web.StreamResponse:
        prompt = _prompt(body)
        if self.answers is not None:
            if self.answers <= 0:
                await asyncio.Event().wait()
            self.answers -= 1
        await asyncio.sleep(self.seconds)
        if any(part in prompt for part in self.refused):
            return web.json_response({"error": {"message": "refused", "type": "BadRequestError"}}, status=400)
        if body["model"] == JUDGE:
            return streamed(body, judge_reply(prompt), usage=_usage(prompt, 1))
        if body.get("stream"):
            return streamed(body, varied_text(self.forms, prompt), usage=_usage(prompt, 1))
        seeds = [(body.get("seed"), index) for index in range(body.get("n", 1))]
        texts = [varied_text(self.forms, prompt, *seed) for seed in seeds]
        return web.json_response(whole(body, texts, usage=_usage(prompt, len(texts))))


def _prompt(body: Any) -> str:
    return "\n".join(message["content"] for message in body["messages"])


def _usage(prompt: str, texts: int) -> dict[str, int]:
    sent, generated = len(prompt) // 4, 2 * texts
    return {"prompt_tokens": sent, "completion_tokens": generated, "total_tokens": sent + generated}
