"""Judgements of policies in the document store: the last of each policy on each name of runs.

A policy is what its text says: another text of the same name is another policy, whose judgement leaves the first alone.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from safescale.core.decisions.policy import Verdict
from safescale.core.errors import FailedPreconditionError
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.documents.port import Document, DocumentStore, NewDocument

GATE = "gate"
WRITE_TRIES = 10
HIGH_RISK = "high_risk_error_rate"

PASSED: Mapping[Verdict, bool | int] = {Verdict.PASS: True, Verdict.FAIL: False, Verdict.INSUFFICIENT: 0}
"""The field `passed` of a document, by verdict."""

RETIRED_S = 30 * 86400.0
"""Seconds without a judgement after which a policy counts no more, where another text of its name has been judged."""


@dataclass(frozen=True, slots=True)
class PolicyJudgement:
    """How a policy judged a run. Times in seconds since 1970.

    `high_risk_limits` are (model, condition, limit): the most that the policy allows of high-risk errors among the
    greedy answers. `policy_sha256` is that of the policy's text in hex; empty in documents of versions that knew names
    alone. It stands in the document's key and not in its body, so that those versions read it too.
    """

    policy: str
    name: str
    run_id: str
    run_created_at_s: float
    judged_at_s: float
    verdict: Verdict
    high_risk_limits: tuple[tuple[str, str, float], ...]
    policy_sha256: str = ""

    @property
    def key(self) -> str:
        """Key of its document."""
        known_by_name = f"{len(self.policy)}/{self.policy}/{self.name}"
        return f"{self.policy_sha256}/{known_by_name}" if self.policy_sha256 else known_by_name


def high_risk_limits(results: Sequence[pb.RequirementResult]) -> tuple[tuple[str, str, float], ...]:
    """Return the limits that a judgement set for high-risk errors of greedy answers, by model and condition.

    Those of slices are left out: what is held against the limits is the rate over all questions.
    """
    return tuple(
        (result.model, result.condition, result.limit)
        for result in results
        if result.metric == HIGH_RISK and result.direction == "max" and result.regime == "greedy"
        and result.HasField("value") and not result.slice
    )  # fmt: skip


class GateStore:
    """The last judgement of each policy on each name."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def put(self, gate: PolicyJudgement) -> bool:
        """Record a judgement; False when one of a newer run is there: looking back is no news.

        Raises:
            FailedPreconditionError: others write it all the time.

        """
        key = gate.key
        for _ in range(WRITE_TRIES):
            stored = await self._documents.get(GATE, key)
            if stored is not None and _gate(stored).run_created_at_s > gate.run_created_at_s:
                return False
            version = 0 if stored is None else stored.version
            if await self._documents.put(NewDocument(GATE, key, _body(gate)), version) is not None:
                return True
        raise FailedPreconditionError(f"the judgement of policy {gate.policy!r} is changed by others all the time")

    async def newest(self, count: int) -> list[PolicyJudgement]:
        """Return the `count` judgements made last, newest first; those that others have replaced are left out."""
        gates = [_gate(document) async for document in self._documents.scan(GATE)]
        return heapq.nlargest(count, _standing(gates), key=lambda gate: gate.judged_at_s)


def _standing(gates: Sequence[PolicyJudgement]) -> list[PolicyJudgement]:
    """Return judgements that count: not those of a policy that another text of its name has replaced.

    Of a judgement that is known by the name alone nobody can tell whose it was: the first one of that name on a run as
    new replaces it.
    """
    by_name: dict[tuple[str, str], list[PolicyJudgement]] = {}
    for gate in gates:
        by_name.setdefault((gate.policy, gate.name), []).append(gate)
    found = []
    for named in by_name.values():
        last = max(gate.judged_at_s for gate in named)
        newest_run = max((gate.run_created_at_s for gate in named if gate.policy_sha256), default=-math.inf)
        found += [
            gate
            for gate in named
            if gate.judged_at_s > last - RETIRED_S and (gate.policy_sha256 or gate.run_created_at_s > newest_run)
        ]
    return found


def _body(gate: PolicyJudgement) -> dict[str, Any]:
    """Return the stored form: what versions that knew PASS and FAIL alone can read, for they take all of its fields.

    To those `passed: 0` is not passed, as `false` is; here it is INSUFFICIENT.
    """
    body = {name: value for name, value in asdict(gate).items() if name not in {"policy_sha256", "verdict"}}
    return body | {"passed": PASSED[gate.verdict]}


def _gate(document: Document) -> PolicyJudgement:
    body = dict(document.body)
    limits = tuple((model, condition, limit) for model, condition, limit in body.pop("high_risk_limits"))
    passed = body.pop("passed")
    verdict = next((each for each, stored in PASSED.items() if stored is passed), Verdict.INSUFFICIENT)
    gate = PolicyJudgement(**body, verdict=verdict, high_risk_limits=limits)
    # Its key by the name alone, behind the hash where there is one.
    return replace(gate, policy_sha256=document.key.removesuffix(gate.key).removesuffix("/"))
