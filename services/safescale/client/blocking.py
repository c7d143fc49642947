"""The blocking client: the asyncio client on an event loop of its own thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from safescale.client.client import AsyncScoringClient
from safescale.client.options import ClientOptions
from safescale.client.source import Answers
from safescale.client.types import (
    Answer,
    Comparison,
    Completeness,
    Gate,
    Letters,
    Metric,
    PlannedRequirement,
    Scored,
    Series,
)
from safescale.core.safety.benchmark.benchmark import Question

T = TypeVar("T")


class ScoringClient:
    """Scores answers and computes metrics at a scoring service. Use as a context manager; safe from any thread."""

    def __init__(self, address: str, options: ClientOptions | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="safescale-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._run(_made(address, options))
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "ScoringClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def score(self, answer: Answer) -> Scored:
        """Read and score one answer.

        Raises:
            SafescaleError: the answer cannot be scored, or the server cannot be reached within the deadline.

        """
        return self._run(self._client.score(answer))

    def score_many(self, answers: Answers) -> Iterator[Scored]:
        """Results of answers in their order. Answers are taken from the iterable as the server keeps up.

        An answer that cannot be scored has `failure` set and ends nothing. A connection that breaks is made again, and
        the batches without a result are sent again. The iterable is read in a thread of the client's.

        Raises:
            SafescaleError: the server cannot be reached within the tries, or refuses a batch.

        """
        results = self._client.score_batches(answers)
        try:
            while (batch := self._run(_next(results))) is not None:
                yield from batch
        finally:
            self._run(_closed(results))

    def metrics(
        self, questions: Sequence[Question], cells: Iterable[Letters], formulation: str = "letter",
        slices: Sequence[str] = (),
    ) -> list[Metric]:  # fmt: skip
        """Every metric of letters and labels that the caller brings; nothing is stored.

        With `slices` (subspecialty, question_type or a group of the questions) rows of their values follow.

        Raises:
            SafescaleError: a cell is wrong, or the server cannot be reached.

        """
        return self._run(self._client.metrics(questions, cells, formulation, slices))

    def run_metrics(self, run_id: str, slices: Sequence[str] = ()) -> list[Metric]:
        """Every metric of a run, named by id, unique prefix or `latest`; with `slices` their rows follow.

        Raises:
            NotFoundError: there is no such run.

        """
        return self._run(self._client.run_metrics(run_id, slices))

    def run_completeness(self, run_id: str) -> Completeness:
        """Whether a run, named by id, unique prefix or `latest`, is whole, and what is missing of it.

        Raises:
            NotFoundError: there is no such run.

        """
        return self._run(self._client.run_completeness(run_id))

    def series(self, name: str) -> Series:
        """Return the evidence that the runs of a series got worse.

        Raises:
            NotFoundError: no run is of such a series.

        """
        return self._run(self._client.series(name))

    def compare(self, candidate: str, baseline: str = "", models: tuple[str, str] = ("", "")) -> Comparison:
        """Compare a run with a baseline, both named by id, unique prefix or `latest`, question by question.

        Raises:
            NotFoundError: there is no such run.
            FailedPreconditionError: the runs are unlike; the message names each difference.

        """
        return self._run(self._client.compare(candidate, baseline, models))

    def gate(self, run_id: str, policy: str = "", baseline: str = "") -> Gate:
        """Judge a run by a policy given as YAML or JSON text; without one by the policy that the run registered.

        A policy that compares takes the run `baseline`, or the last of the run's series that passed.

        Raises:
            SpecError: the policy cannot be used; its `details` list the defects.
            NotFoundError: there is no such run.

        """
        return self._run(self._client.gate(run_id, policy, baseline))

    def gate_letters(
        self, questions: Sequence[Question], cells: Iterable[Letters], policy: str, formulation: str = "letter",
        slices: Sequence[str] = (),
    ) -> Gate:  # fmt: skip
        """Judge letters and labels that the caller brings by a policy; nothing is stored.

        `slices` names those that the policy asks for.

        Raises:
            SpecError: the policy cannot be used; its `details` list the defects.
            SafescaleError: a cell is wrong, or the server cannot be reached.

        """
        return self._run(self._client.gate_letters(questions, cells, policy, formulation, slices))

    def plan(self, policy: str, questions: int) -> list[PlannedRequirement]:
        """Say what each requirement of a policy can decide by a number of questions.

        Raises:
            SpecError: the policy cannot be used; its `details` list the defects.

        """
        return self._run(self._client.plan(policy, questions))


async def _made(address: str, options: ClientOptions | None) -> AsyncScoringClient:
    return AsyncScoringClient(address, options)


async def _next(results: AsyncIterator[list[Scored]]) -> list[Scored] | None:
    return await anext(results, None)


async def _closed(results: AsyncIterator[list[Scored]]) -> None:
    close = getattr(results, "aclose", None)
    if close is not None:
        await close()
