"""Judgements of policies in the document store: the last of each policy on each name of runs."""

import heapq
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from safescale.core.errors import FailedPreconditionError
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.documents.port import Document, DocumentStore, NewDocument

GATE = "gate"
WRITE_TRIES = 10
HIGH_RISK = "high_risk_error_rate"


@dataclass(frozen=True, slots=True)
class Gate:
    """How a policy judged a run. Times in seconds since 1970.

    `high_risk_limits` are (model, condition, limit): the most that the policy allows of high-risk errors among the
    greedy answers.
    """

    policy: str
    name: str
    run_id: str
    run_created_at_s: float
    judged_at_s: float
    passed: bool
    high_risk_limits: tuple[tuple[str, str, float], ...]


def high_risk_limits(results: Sequence[pb.RequirementResult]) -> tuple[tuple[str, str, float], ...]:
    """The limits that a judgement set for high-risk errors of greedy answers, by model and condition."""
    return tuple(
        (result.model, result.condition, result.limit)
        for result in results
        if result.metric == HIGH_RISK and result.direction == "max" and result.regime == "greedy"
        and result.HasField("value")
    )  # fmt: skip


class GateStore:
    """The last judgement of each policy on each name."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def put(self, gate: Gate) -> bool:
        """Record a judgement; False when one of a newer run is there: looking back is no news.

        Raises:
            FailedPreconditionError: others write it all the time.

        """
        key = f"{len(gate.policy)}/{gate.policy}/{gate.name}"
        for _ in range(WRITE_TRIES):
            stored = await self._documents.get(GATE, key)
            if stored is not None and _gate(stored).run_created_at_s > gate.run_created_at_s:
                return False
            version = 0 if stored is None else stored.version
            if await self._documents.put(NewDocument(GATE, key, asdict(gate)), version) is not None:
                return True
        raise FailedPreconditionError(f"the judgement of policy {gate.policy!r} is changed by others all the time")

    async def newest(self, count: int) -> list[Gate]:
        """The `count` judgements that were made last, the last first."""
        gates = [_gate(document) async for document in self._documents.scan(GATE)]
        return heapq.nlargest(count, gates, key=lambda gate: gate.judged_at_s)


def _gate(document: Document) -> Gate:
    body = document.body
    limits = tuple((model, condition, limit) for model, condition, limit in body["high_risk_limits"])
    return Gate(**{**body, "high_risk_limits": limits})
