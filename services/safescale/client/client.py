"""The client for asyncio."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import grpc

from safescale.client import wire
from safescale.client.options import ClientOptions, open_channel
from safescale.client.types import Answer, Completeness, Gate, Letters, Metric, Scored
from safescale.core.benchmark import Question
from safescale.core.errors import GarbageAnswerError, ServiceUnavailableError
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc
from safescale.runtime.bus.port import back_off_s
from safescale.runtime.channels import rpc_errors


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

    async def score_many(self, answers: Iterable[Answer]) -> AsyncIterator[Scored]:
        """Results of answers in their order. Answers are taken from the iterable as the server keeps up.

        An answer that cannot be scored has `failure` set and ends nothing. A connection that breaks is made again, and
        the batches without a result are sent again.

        Raises:
            SafescaleError: the server cannot be reached within the tries, or refuses a batch.

        """
        async for batch in self.score_batches(answers):
            for result in batch:
                yield result

    async def score_batches(self, answers: Iterable[Answer]) -> AsyncIterator[list[Scored]]:
        """As `score_many`, batch by batch: `batch_size` results at a time, the last ones fewer.

        Raises:
            SafescaleError: the server cannot be reached within the tries, or refuses a batch.

        """
        source = wire.batches(answers, self._options.batch_size)
        waiting: deque[pb.ScoreAnswersRequest] = deque()
        failures = 0
        while True:
            try:
                async for response in self._exchange(source, waiting):
                    failures = 0
                    yield [wire.scored(each) for each in response.scored]
                return
            except ServiceUnavailableError:
                failures += 1
                if failures >= self._options.tries:
                    raise
                await asyncio.sleep(back_off_s(failures))

    async def _exchange(
        self, source: Iterator[pb.ScoreAnswersRequest], waiting: deque[pb.ScoreAnswersRequest]
    ) -> AsyncIterator[pb.ScoreAnswersResponse]:
        """One stream: first what has no result yet, then new batches; at most `window` without a result."""
        call = self._stub.ScoreAnswers()
        try:
            with rpc_errors():
                for batch in waiting:
                    await _write(call, batch)
                more = True
                while more or waiting:
                    while more and len(waiting) < self._options.window:
                        new = next(source, None)
                        if new is None:
                            more = False
                            await call.done_writing()
                        else:
                            waiting.append(new)
                            await _write(call, new)
                    if waiting:
                        response = await asyncio.wait_for(call.read(), self._options.timeout_s)
                        yield _of_batch(response, waiting)
        except TimeoutError as error:
            raise ServiceUnavailableError(f"no result of a batch within {self._options.timeout_s:g} s") from error
        finally:
            call.cancel()

    async def metrics(
        self, questions: Sequence[Question], cells: Iterable[Letters], formulation: str = "letter"
    ) -> list[Metric]:
        """Every metric of letters and labels that the caller brings; nothing is stored.

        Raises:
            SafescaleError: a cell is wrong, or the server cannot be reached.

        """
        request = wire.metrics_request(questions, cells, formulation)
        with rpc_errors():
            response = await self._stub.ComputeMetrics(request, timeout=self._options.timeout_s)
        return wire.metrics(response.rows)

    async def run_metrics(self, run_id: str) -> list[Metric]:
        """Every metric of a run, named by id, unique prefix or `latest`.

        Raises:
            NotFoundError: there is no such run.

        """
        with rpc_errors():
            response = await self._stub.GetRunMetrics(
                pb.GetRunMetricsRequest(run_id=run_id), timeout=self._options.timeout_s
            )
        return wire.metrics(response.rows)

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

    async def gate(self, run_id: str, policy: str) -> Gate:
        """Judge a run by a policy given as YAML or JSON text.

        Raises:
            SpecError: the policy cannot be used; its `details` list the defects.
            NotFoundError: there is no such run.

        """
        request = pb.EvaluatePolicyRequest(run_id=run_id, policy=policy)
        with rpc_errors():
            response = await self._stub.EvaluatePolicy(request, timeout=self._options.timeout_s)
        return wire.gate(response)


async def _write(call: Any, batch: pb.ScoreAnswersRequest) -> None:
    try:
        await call.write(batch)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
        # The call has ended, and gRPC replaces its status by that of the write. When the batch is sent again, a refusal
        # is read as what it is.
        raise ServiceUnavailableError("the server ended the stream") from error


def _of_batch(response: object, waiting: deque[pb.ScoreAnswersRequest]) -> pb.ScoreAnswersResponse:
    """The response, which must be that of the batch that waits longest."""
    if not isinstance(response, pb.ScoreAnswersResponse):
        raise ServiceUnavailableError("the server ended the stream before every batch had its result")
    if response.batch_id != waiting[0].batch_id or len(response.scored) != len(waiting[0].answers):
        raise GarbageAnswerError(f"the server answered batch {response.batch_id!r}; expected {waiting[0].batch_id!r}")
    waiting.popleft()
    return response
