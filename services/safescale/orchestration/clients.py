"""What orchestration asks of the other services, over gRPC."""

from collections.abc import AsyncIterator, Callable

import grpc

from safescale.core.errors import SafescaleError
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.rpc.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2, scoring_pb2_grpc
from safescale.runtime.grpc.channels import responses, rpc_errors

PROBE_TEXT = (
    "The radiograph of the chest was reviewed with the referring team. The lungs are clear, the heart is of normal "
    "size, and no pleural effusion is seen. The bones show degenerative change that fits the age of the patient. "
)
"""Text of the call that measures a model's speed; about forty tokens a copy."""

PROBE_COPIES = 5
QUICK_S = 30.0
"""Deadline of calls that only read, in seconds."""

VERDICTS_S = 600.0
"""Deadline of reading the verdicts of a run, in seconds: whoever waits for a run's lock waits for it, too."""

PROBE_S = 120.0
"""Deadline of the speed measurement, in seconds: the model may have to be loaded first."""


class Peers:
    """Clients of inference, retrieval and scoring; channels are asked for at each call, since addresses come late."""

    def __init__(
        self,
        inference: Callable[[], grpc.aio.Channel],
        retrieval: Callable[[], grpc.aio.Channel],
        scoring: Callable[[], grpc.aio.Channel],
    ) -> None:
        self._inference = inference
        self._retrieval = retrieval
        self._scoring = scoring

    async def models(self) -> dict[str, inference_pb2.Model]:
        """Read the model catalog by id."""
        stub = inference_pb2_grpc.InferenceServiceStub(self._inference())
        with rpc_errors():
            response = await stub.ListModels(inference_pb2.ListModelsRequest(), timeout=QUICK_S)
        return {model.id: model for model in response.models}

    async def corpora(self) -> dict[str, retrieval_pb2.Corpus]:
        """Read the corpora by id."""
        stub = retrieval_pb2_grpc.RetrievalServiceStub(self._retrieval())
        with rpc_errors():
            response = await stub.ListCorpora(retrieval_pb2.ListCorporaRequest(), timeout=QUICK_S)
        return {corpus.corpus_id: corpus for corpus in response.corpora}

    async def put_context(self, text: str) -> str:
        """Store a text as a context; return its id."""
        stub = retrieval_pb2_grpc.RetrievalServiceStub(self._retrieval())
        with rpc_errors():
            response = await stub.PutContext(retrieval_pb2.PutContextRequest(text=text), timeout=QUICK_S)
        return response.context.context_id

    async def verdict_keys(self, run_id: str) -> AsyncIterator[scoring_pb2.Verdict]:
        """Yield cell, attempt and failure of each verdict of a run, the newest attempt of each cell."""
        stub = scoring_pb2_grpc.ScoringServiceStub(self._scoring())
        request = scoring_pb2.ExportVerdictsRequest(run_id=run_id, keys_only=True)
        async for response in responses(stub.ExportVerdicts(request, timeout=VERDICTS_S)):
            yield response.verdict

    async def seconds_per_token(self, model: str) -> float | None:
        """Measure the seconds per prompt token of a model with two calls: the first may load it; None if it fails."""
        stub = inference_pb2_grpc.InferenceServiceStub(self._inference())
        request = inference_pb2.GenerateRequest(
            model=model,
            messages=inference_pb2.Messages(user=PROBE_TEXT * PROBE_COPIES),
            sampling=inference_pb2.Sampling(max_new_tokens=1),
            fresh=True,
        )
        try:
            with rpc_errors():
                await stub.Generate(request, timeout=PROBE_S)
                response = await stub.Generate(request, timeout=PROBE_S)
        except SafescaleError:
            return None
        tokens = response.usage.prompt_tokens
        return response.elapsed_s / tokens if tokens else None
