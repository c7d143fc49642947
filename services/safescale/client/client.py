"""The client for asyncio."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from types import TracebackType
from typing import Any

import grpc

from safescale.client import wire
from safescale.client.options import ClientOptions, open_channel
from safescale.client.source import Answers, Batches
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
from safescale.core.errors import GarbageAnswerError, ServiceUnavailableError
from safescale.core.safety.benchmark.benchmark import Question
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc
from safescale.runtime.bus.port import back_off_s
from safescale.runtime.grpc.channels import rpc_errors


class AsyncScoringClient:
    """Scores answers and computes metrics at a scoring service. Use as an async context manager, in one event loop."""

    def __init__(self, address: str, options: ClientOptions | None = None) -> None:
        self._options = options or ClientOptions()
        self._channel = open_channel(address, self._options)
        self._stub = scoring_pb2_grpc.ScoringServiceStub(self._channel)

    async def __aenter__(self) -> "AsyncScoringClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def score(self, answer: Answer) -> Scored:
        """Read and score one answer.

        Raises:
            SafescaleError: the answer cannot be scored, or the server cannot be reached within the deadline.

        """
        request = pb.ScoreAnswerRequest(answer=wire.answer_input(answer, {}))
        with rpc_errors():
            response = await self._stub.ScoreAnswer(request, timeout=self._options.timeout_s)
        return wire.scored(response.scored)

    async def score_many(self, answers: Answers) -> AsyncIterator[Scored]:
        """Results of answers in their order. Answers are taken from the iterable as the server keeps up.

        They may come from a generator that takes its time, which is read in a thread, or from an async generator.
        An answer that cannot be scored has `failure` set and ends nothing. A connection that breaks is made again, and
        the batches without a result are sent again.

        Raises:
            SafescaleError: the server cannot be reached within the tries and the deadline, or refuses a batch.

        """
        async for batch in self.score_batches(answers):
            for result in batch:
                yield result

    async def score_batches(self, answers: Answers) -> AsyncIterator[list[Scored]]:
        """As `score_many`, batch by batch: `batch_size` results at a time, the last ones fewer.

        Raises:
            SafescaleError: the server cannot be reached within the tries, or refuses a batch.

        """
        source = Batches(answers, self._options.batch_size)
        waiting: deque[pb.ScoreAnswersRequest] = deque()
        clock = _Clock(self._options.timeout_s)
        failures = 0
        try:
            while True:
                try:
                    async for response in self._exchange(source, waiting, clock):
                        failures = 0
                        yield [wire.scored(each) for each in response.scored]
                    return
                except ServiceUnavailableError:
                    failures += 1
                    pause = back_off_s(failures)
                    if failures >= self._options.tries or clock.left() <= pause:
                        raise
                    await asyncio.sleep(pause)
        finally:
            await source.close()

    async def _exchange(
        self, source: Batches, waiting: deque[pb.ScoreAnswersRequest], clock: "_Clock"
    ) -> AsyncIterator[pb.ScoreAnswersResponse]:
        """One stream: first what has no result yet, then new batches; at most `window` without a result."""
        call = self._stub.ScoreAnswers()
        reading: asyncio.Future[Any] | None = None
        more = True
        try:
            with rpc_errors():
                for batch in waiting:
                    await clock.held(_write(call, batch))
                while more or waiting:
                    asking = source.next() if more and len(waiting) < self._options.window else None
                    if waiting and reading is None:
                        reading = asyncio.ensure_future(call.read())
                    tasks = [task for task in (asking, reading) if task is not None]
                    # Time runs while the server has something to answer, and not while the source takes its own.
                    bound = clock.left() if waiting else None
                    await asyncio.wait(tasks, timeout=bound, return_when=asyncio.FIRST_COMPLETED)
                    if reading is not None and reading.done():
                        response = _of_batch(reading.result(), waiting)
                        reading = None
                        clock.begin()
                        yield response
                    elif asking is not None and asking.done():
                        if not waiting:
                            clock.begin()
                        more = await self._sent(call, source, waiting, clock)
                    elif clock.left() <= 0:
                        raise TimeoutError
        except TimeoutError as error:
            raise ServiceUnavailableError(f"no result of a batch within {self._options.timeout_s:g} s") from error
        finally:
            if reading is not None:
                reading.cancel()
            call.cancel()

    async def _sent(self, call: Any, source: Batches, waiting: deque[pb.ScoreAnswersRequest], clock: "_Clock") -> bool:
        """Send the batch that the source gave; False when it was the last one."""
        batch = source.next().result()
        source.taken()
        if batch is None:
            await clock.held(call.done_writing())
            return False
        waiting.append(batch)
        await clock.held(_write(call, batch))
        return True

    async def metrics(
        self, questions: Sequence[Question], cells: Iterable[Letters], formulation: str = "letter",
        slices: Sequence[str] = (),
    ) -> list[Metric]:  # fmt: skip
        """Every metric of letters and labels that the caller brings; nothing is stored.

        With `slices` (subspecialty, question_type or a group of the questions) rows of their values follow.

        Raises:
            SafescaleError: a cell is wrong, or the server cannot be reached.

        """
        request = wire.metrics_request(questions, cells, formulation)
        request.slices.extend(slices)
        with rpc_errors():
            response = await self._stub.ComputeMetrics(request, timeout=self._options.timeout_s)
        return wire.metrics([*response.rows, *response.slice_rows])

    async def run_metrics(self, run_id: str, slices: Sequence[str] = ()) -> list[Metric]:
        """Every metric of a run, named by id, unique prefix or `latest`; with `slices` their rows follow.

        Raises:
            NotFoundError: there is no such run.

        """
        with rpc_errors():
            response = await self._stub.GetRunMetrics(
                pb.GetRunMetricsRequest(run_id=run_id, slices=slices), timeout=self._options.timeout_s
            )
        return wire.metrics([*response.rows, *response.slice_rows])

    async def run_completeness(self, run_id: str) -> Completeness:
        """Whether a run, named by id, unique prefix or `latest`, is whole, and what is missing of it.

        Raises:
            NotFoundError: there is no such run.

        """
        with rpc_errors():
            response = await self._stub.GetRunMetrics(
                pb.GetRunMetricsRequest(run_id=run_id), timeout=self._options.timeout_s
            )
        return wire.completeness(response)

    async def series(self, name: str) -> Series:
        """Return the evidence that the runs of a series got worse.

        Raises:
            NotFoundError: no run is of such a series.

        """
        with rpc_errors():
            response = await self._stub.GetSeries(pb.GetSeriesRequest(series=name), timeout=self._options.timeout_s)
        return wire.series(response)

    async def compare(self, candidate: str, baseline: str = "", models: tuple[str, str] = ("", "")) -> Comparison:
        """Compare a run with a baseline, both named by id, unique prefix or `latest`, question by question.

        `models` are those of candidate and baseline, where the runs have several; without a baseline they are two of
        one run.

        Raises:
            NotFoundError: there is no such run.
            FailedPreconditionError: the runs are unlike; the message names each difference.

        """
        request = pb.CompareRunsRequest(
            candidate_run_id=candidate, baseline_run_id=baseline, candidate_model=models[0], baseline_model=models[1]
        )
        with rpc_errors():
            response = await self._stub.CompareRuns(request, timeout=self._options.timeout_s)
        return wire.comparison(response)

    async def gate(self, run_id: str, policy: str = "", baseline: str = "") -> Gate:
        """Judge a run by a policy given as YAML or JSON text; without one by the policy that the run registered.

        A policy that compares takes the run `baseline`, or the last of the run's series that passed.

        Raises:
            SpecError: the policy cannot be used; its `details` list the defects.
            NotFoundError: there is no such run.

        """
        request = pb.EvaluatePolicyRequest(run_id=run_id, policy=policy, baseline_run_id=baseline)
        with rpc_errors():
            response = await self._stub.EvaluatePolicy(request, timeout=self._options.timeout_s)
        return wire.gate(response)

    async def gate_letters(
        self, questions: Sequence[Question], cells: Iterable[Letters], policy: str, formulation: str = "letter",
        slices: Sequence[str] = (),
    ) -> Gate:  # fmt: skip
        """Judge letters and labels that the caller brings by a policy; nothing is stored.

        `slices` names those that the policy asks for.

        Raises:
            SpecError: the policy cannot be used; its `details` list the defects.
            SafescaleError: a cell is wrong, or the server cannot be reached.

        """
        request = wire.metrics_request(questions, cells, formulation)
        request.slices.extend(slices)
        with rpc_errors():
            measured = await self._stub.ComputeMetrics(request, timeout=self._options.timeout_s)
            rows = [*measured.rows, *measured.slice_rows]
            judged = await self._stub.EvaluatePolicy(
                pb.EvaluatePolicyRequest(policy=policy, rows=rows), timeout=self._options.timeout_s
            )
        return wire.gate(judged)

    async def plan(self, policy: str, questions: int) -> list[PlannedRequirement]:
        """Say what each requirement of a policy can decide by a number of questions.

        Raises:
            SpecError: the policy cannot be used; its `details` list the defects.

        """
        request = pb.PlanPolicyRequest(policy=policy, question_count=questions)
        with rpc_errors():
            response = await self._stub.PlanPolicy(request, timeout=self._options.timeout_s)
        return wire.planned(response)


class _Clock:
    """The seconds that a batch has, its tries included, from when it was sent or the result before it came."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = 0.0
        self.begin()

    def begin(self) -> None:
        """Start anew."""
        self._end = time.monotonic() + self._seconds

    def left(self) -> float:
        """Seconds left, 0 at least."""
        return max(0.0, self._end - time.monotonic())

    async def held(self, work: Awaitable[None]) -> None:
        """Wait for something within what is left; TimeoutError when it takes longer."""
        await asyncio.wait_for(work, self.left())


async def _write(call: Any, batch: pb.ScoreAnswersRequest) -> None:
    try:
        await call.write(batch)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
        # The call has ended, and gRPC replaces its status by that of the write. When the batch is sent again, a refusal
        # is read as what it is.
        raise ServiceUnavailableError("the server ended the stream") from error


def _of_batch(response: object, waiting: deque[pb.ScoreAnswersRequest]) -> pb.ScoreAnswersResponse:
    """Return the response, which must be that of the batch that waits longest."""
    if not isinstance(response, pb.ScoreAnswersResponse):
        raise ServiceUnavailableError("the server ended the stream before every batch had its result")
    if response.batch_id != waiting[0].batch_id or len(response.scored) != len(waiting[0].answers):
        raise GarbageAnswerError(f"the server answered batch {response.batch_id!r}; expected {waiting[0].batch_id!r}")
    waiting.popleft()
    return response
