"""What the agent does to the world: it asks its model, searches, and stores its report. All over gRPC."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from safescale.core.errors import BackendUnavailableError, GarbageAnswerError, ServiceUnavailableError
from safescale.orchestration.agent.prompts import SYSTEM, Prompt
from safescale.orchestration.agent.reading import GeneratedText
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from safescale.runtime.grpc.channels import rpc_errors

T = TypeVar("T")

GENERATE_S = 900.0
"""Deadline of one call to the model, in seconds: inference bounds and repeats its own attempts."""

SEARCH_S = 60.0
"""Deadline of one search, in seconds."""

QUICK_S = 30.0
"""Deadline of calls that only read or store, in seconds."""

SEARCH_K = 4
"""Chunks asked of one search."""

REASONING_TOKENS = 4096
"""New tokens granted beyond those of the text itself to a model that reasons."""

RETRY_DELAYS_S = (0.5, 2.0, 5.0)
"""Waits before a call is repeated whose service could not be reached: no answer was drawn, so none is drawn twice."""


@dataclass(frozen=True, slots=True)
class Agent:
    """The model that researches. `fresh` bypasses the generation cache."""

    model: str
    revision: str
    reasoning: bool
    fresh: bool = False
    fingerprint: str = ""


class Tools:
    """Clients of inference and retrieval; channels are asked for at each call, since addresses come late."""

    def __init__(
        self,
        inference: Callable[[], grpc.aio.Channel],
        retrieval: Callable[[], grpc.aio.Channel],
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        self._inference = inference
        self._retrieval = retrieval
        self._retry_delays_s = tuple(retry_delays_s)

    async def _reached(self, call: Callable[[], Awaitable[T]]) -> T:
        for delay_s in self._retry_delays_s:
            try:
                with rpc_errors():
                    return await call()
            except (ServiceUnavailableError, BackendUnavailableError):
                await asyncio.sleep(delay_s)
        with rpc_errors():
            return await call()

    async def agent(self, model: str, *, fresh: bool) -> Agent:
        """Return the catalog's entry of the model.

        Raises:
            NotFoundError: the catalog has no such model.

        """
        stub = inference_pb2_grpc.InferenceServiceStub(self._inference())
        request = inference_pb2.GetModelRequest(model=model)
        response = await self._reached(lambda: stub.GetModel(request, timeout=QUICK_S))
        found = response.model
        return Agent(model, found.revision, found.reasoning, fresh, found.fingerprint)

    async def generate(
        self, agent: Agent, step: "pb.ResearchStep.ValueType", prompt: Prompt
    ) -> tuple[GeneratedText, pb.AgentCall]:
        """Ask the model once, greedily.

        Raises:
            SafescaleError: the call failed.

        """
        stub = inference_pb2_grpc.InferenceServiceStub(self._inference())
        request = inference_pb2.GenerateRequest(
            model=agent.model,
            messages=inference_pb2.Messages(system=SYSTEM, user=prompt.user),
            sampling=inference_pb2.Sampling(
                temperature=0.0,
                max_new_tokens=prompt.max_new_tokens + (REASONING_TOKENS if agent.reasoning else 0),
                count=1,
            ),
            fresh=agent.fresh,
            # What one research holds comes from one model, also when it is continued later.
            model_revision=agent.revision,
            model_fingerprint=agent.fingerprint,
        )
        response = await self._reached(lambda: stub.Generate(request, timeout=GENERATE_S))
        if len(response.outputs) != 1:
            raise GarbageAnswerError(f"inference answered {len(response.outputs)} outputs where 1 was asked")
        output = response.outputs[0]
        call = pb.AgentCall(
            step=step,
            kind="generate",
            elapsed_s=response.elapsed_s,
            tokens=response.usage.prompt_tokens + response.usage.generated_tokens,
        )
        return GeneratedText(output.text.strip(), output.finish_reason == "length"), call

    async def search(self, corpus_id: str, query: str) -> tuple[Sequence[retrieval_pb2.Hit], pb.AgentCall]:
        """Search the corpus.

        Raises:
            SafescaleError: the call failed.

        """
        stub = retrieval_pb2_grpc.RetrievalServiceStub(self._retrieval())
        request = retrieval_pb2.SearchRequest(corpus_id=corpus_id, query=query, k=SEARCH_K)
        begin = time.perf_counter()
        response = await self._reached(lambda: stub.Search(request, timeout=SEARCH_S))
        elapsed_s = time.perf_counter() - begin
        return response.hits, pb.AgentCall(step=pb.RESEARCH_STEP_SEARCH, kind="search", elapsed_s=elapsed_s)

    async def put_report(self, report: str, chunk_ids: Sequence[str], corpus_id: str) -> common_pb2.ContextRef:
        """Store a report as a context; the same report again changes nothing.

        Raises:
            SafescaleError: the call failed.

        """
        stub = retrieval_pb2_grpc.RetrievalServiceStub(self._retrieval())
        request = retrieval_pb2.PutContextRequest(text=report, chunk_ids=chunk_ids, corpus_id=corpus_id)
        response = await self._reached(lambda: stub.PutContext(request, timeout=QUICK_S))
        context = response.context
        return common_pb2.ContextRef(context_id=context.context_id, token_count=context.token_count)
