"""A scripted backend and an engine around it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from safescale.core.errors import SafescaleError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.port import (
    Call,
    Capabilities,
    Generation,
    Generations,
    Output,
    Sampling,
    Score,
    Scores,
    Tokens,
)
from safescale.inference.cache.store import GenerationCache
from safescale.inference.catalog import Catalog, ModelRow
from safescale.inference.engine import CallPolicy, Engine, PromptRequest
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.telemetry import Telemetry

GREEDY = Sampling(0.0, 10)
DRAWN = Sampling(0.7, 10, 3, 4)
QUESTION = PromptRequest("m", Messages("s", "u"), condition="zero_shot")


class ScriptedBackend:
    """Answers by rule; raises what `failures` holds, one per exchange, before it answers."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.exchanges: list[tuple[Call, object]] = []
        self.reason = ""
        self.can_score = True
        self.repeats = False
        self.fingerprint = "scripted 1"
        self.text = "B"
        self.reasoning = ""
        self.weights = "f" * 64
        self.prompt_calls = 1
        self.gate: asyncio.Event | None = None
        self.scores_of: Callable[[str], float] = lambda text: -float(len(text))
        self.generations_of: Callable[[Generations], Generations] = lambda answer: answer

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self.can_score, 2, self.fingerprint, self.repeats)

    def unavailable_reason(self) -> str:
        return self.reason

    async def revision(self, *, refresh: bool = False) -> str:
        return self.weights

    async def _exchange(self, call: Call, what: object) -> None:
        self.exchanges.append((call, what))
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)

    def _output(self, sampling: Sampling, index: int) -> Output:
        text = self.text if sampling.greedy else f"{self.text}{sampling.seed + index}"
        return Output(text, self.reasoning, "stop", 2)

    async def generate(self, call: Call, samplings: Sequence[Sampling]) -> Generations:
        await self._exchange(call, tuple(samplings))
        items = tuple(
            Generation(
                tuple(self._output(s, i) for i in range(s.count)),
                7,
                0.25,
                0.1 if s.greedy else None,
                # One exchange for all: its prompt was sent with the first.
                prompt_calls=self.prompt_calls if place == 0 else 0,
            )
            for place, s in enumerate(samplings)
        )
        return self.generations_of(Generations(items, 0.5))

    async def stream(self, call: Call, sampling: Sampling) -> AsyncIterator[str | Generation]:
        await self._exchange(call, sampling)
        for piece in self.text:
            yield piece
        yield Generation((self._output(sampling, 0),), 7, 0.25, 0.1, self.prompt_calls)

    async def score(self, call: Call, continuations: Sequence[str]) -> Scores:
        await self._exchange(call, tuple(continuations))
        items = tuple(Score(self.scores_of(text), len(text.split())) for text in continuations)
        return Scores(items, 7, 0.25, 0.1, 0.5, self.prompt_calls)

    async def tokenize(self, texts: Sequence[str], truncate_to: int | None) -> Tokens:
        counts = tuple(len(text.split()) for text in texts)
        cut = () if truncate_to is None else tuple(" ".join(text.split()[:truncate_to]) for text in texts)
        return Tokens(counts, cut)

    async def close(self) -> None:
        self.reason = "closed"


def row(**changes: object) -> ModelRow:
    values: dict[str, object] = {
        "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 4096, "revision": "f" * 64, "instruct": True,
        "backend": "embedded", "license": "MIT", "embedded": {"path": "m.gguf"}, **changes,
    }  # fmt: skip
    return ModelRow.model_validate(values)


class Bench:
    """An engine over one scripted model named m, and what to look at."""

    def __init__(self, documents: SqliteDocuments, model_row: ModelRow, deadline_s: float = 60.0) -> None:
        self.backend = ScriptedBackend()
        self.documents = documents
        self.telemetry = Telemetry()
        policy = CallPolicy(timeout_s=5.0, attempts=3, max_wait_s=0.001, deadline_s=deadline_s)
        catalog = Catalog({"m": model_row})
        self.engine = Engine(catalog, {"m": self.backend}, GenerationCache(documents), self.telemetry, policy)

    def metric(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(name, labels) or 0.0

    @staticmethod
    def reason_of(error: BaseException) -> str:
        assert isinstance(error, SafescaleError)
        return error.reason


@pytest.fixture
async def documents(tmp_path):
    store = await SqliteDocuments.open(tmp_path / "documents.db")
    yield store
    await store.close()


@pytest.fixture
async def bench(documents):
    built = Bench(documents, row())
    yield built
    await built.engine.close()


@pytest.fixture
def bench_of(documents) -> Callable[..., Bench]:
    return lambda deadline_s=60.0, **changes: Bench(documents, row(**changes), deadline_s)


@pytest.fixture
def row_of() -> Callable[..., ModelRow]:
    return row


@pytest.fixture
async def rig(bench):
    from tests.unit.inference.generation_rig import Rig

    built = Rig(bench)
    await built.start()
    yield built
    await built.worker.stop()
    await built.bus.close()
