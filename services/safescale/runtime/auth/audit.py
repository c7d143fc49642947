"""The audit log: who changed what, and when. Entries are only ever added, and hold ids, never texts."""

import hashlib
import re
import secrets
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from safescale.core.errors import SafescaleError
from safescale.runtime.auth.roles import Identity, Role
from safescale.runtime.documents.port import DocumentStore, NewDocument
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.log import get_logger

AUDIT = "audit"
REQUEST_ID = "x-request-id"

REFUSALS = 60
REFUSALS_S = 60.0
"""So many refusals are recorded within so many seconds, others counted: who is refused must not fill the store."""

MAX_ID = 400
"""Characters of an id that are kept: ids come from the caller, unchecked."""

_ORCHESTRATION = "/safescale.orchestration.v1.OrchestrationService/"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AuditedCall:
    """What is kept of a method that changes something: fields of its request, and of its answer."""

    asked: Callable[[Any], Fields] = field(default=lambda _: {})
    done: Callable[[Any], Fields] = field(default=lambda _: {})
    counts: Callable[[Any], bool] = field(default=lambda _: True)


WRITES: Mapping[str, AuditedCall] = {
    _ORCHESTRATION + "ImportBenchmark": AuditedCall(done=lambda r: {"benchmark_id": r.benchmark.benchmark_id}),
    _ORCHESTRATION + "CreateRun": AuditedCall(
        done=lambda r: {"run_id": r.run.run_id, "resumed": "true" if r.resumed else "false"},
        counts=lambda r: not r.validate_only,
    ),
    _ORCHESTRATION + "CancelRun": AuditedCall(
        asked=lambda r: {"run_id": r.run_id}, done=lambda r: {"run_id": r.run.run_id}
    ),
    _ORCHESTRATION + "RetryFailed": AuditedCall(
        asked=lambda r: {"run_id": r.run_id}, done=lambda r: {"run_id": r.run.run_id, "cells": str(r.retried_count)}
    ),
    _ORCHESTRATION + "Research": AuditedCall(
        asked=lambda r: {"corpus_id": r.corpus_id}, done=lambda r: {"research_id": r.research.research_id}
    ),
    "/safescale.inference.v1.InferenceService/TrimCache": AuditedCall(
        asked=lambda r: {
            "model": r.model,
            "older_than_s": f"{r.older_than_s:g}",
            "max_bytes": str(r.max_bytes) if r.HasField("max_bytes") else "",
        },
        done=lambda r: {"removed_count": str(r.removed_count), "removed_bytes": str(r.removed_bytes)},
    ),
    "/safescale.retrieval.v1.RetrievalService/IngestCorpus": AuditedCall(
        done=lambda r: {"corpus_id": r.corpus.corpus_id}
    ),
    "/safescale.scoring.v1.ScoringService/StartAudit": AuditedCall(
        asked=lambda r: {"run_id": r.run_id, "sample": str(r.sample), "seed": str(r.seed)},
        done=lambda r: {"run_id": r.audit.run_id, "created": "true" if r.created else "false"},
    ),
    "/safescale.scoring.v1.ScoringService/ResolveReview": AuditedCall(
        asked=lambda r: {"review_id": r.review_id, "letter": r.letter}, done=lambda r: {"review_id": r.review.review_id}
    ),
}
"""Writes of people. What services write while they work (contexts, generations, verdicts) is recorded with its run."""

WRITES_OF_SOME: Mapping[str, tuple[Role, AuditedCall]] = {
    "/safescale.scoring.v1.ScoringService/EvaluatePolicy": (
        "runner",
        AuditedCall(
            # Without a text it is the one that the run registered, which the answer names.
            asked=lambda r: {
                "run_id": r.run_id,
                "policy_sha256": hashlib.sha256(r.policy.encode()).hexdigest() if r.policy else "",
            },
            done=lambda r: {"passed": "true" if r.passed else "false", "policy_sha256": r.policy_sha256},
            # Rows that a caller brings belong to no run; their judgement is not recorded.
            counts=lambda r: not r.rows,
        ),
    ),
}
"""Methods that more may call, and that change something for those who hold a role: their judgements are recorded."""


@dataclass
class Entry:
    """A write under way; `response` is set once there is one."""

    response: Any = None


class Audit:
    """Writes two entries for each write: before it (`asked`), so that none goes unrecorded, and after it.

    A write that was refused, since the caller is unknown or their role is not enough, has one entry.
    """

    def __init__(self, documents: DocumentStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._documents = documents
        self._clock = clock
        self._recorded: deque[float] = deque()
        self._unrecorded = 0

    async def refused(
        self, call: tuple[str, Any], identity: Identity, error: SafescaleError, metadata: Mapping[str, Any]
    ) -> None:
        """Record that a write was refused; `call` is its method and its request. Any other call leaves no entry."""
        method, request = call
        write = WRITES.get(method)
        whole = request is not None and not hasattr(request, "__aiter__")
        if write is None or (whole and not write.counts(request)):
            return
        now = self._clock()
        while self._recorded and self._recorded[0] <= now - REFUSALS_S:
            self._recorded.popleft()
        if len(self._recorded) >= REFUSALS:
            self._unrecorded += 1
            return
        self._recorded.append(now)
        fields = dict(write.asked(request)) if whole else {}
        if self._unrecorded:
            fields["refused_unrecorded"] = str(self._unrecorded)
            self._unrecorded = 0
        await self._after(_Line(identity, method.rsplit("/", 1)[-1], request_id(metadata)), error.reason, fields)

    @asynccontextmanager
    async def record(
        self, method: str, request: Any, identity: Identity, metadata: Mapping[str, Any]
    ) -> AsyncIterator[Entry]:
        """Record what happens within, where the method is a write.

        Raises:
            SafescaleError: the first entry cannot be stored; nothing is done then.

        """
        write, entry = _write_of(method, identity), Entry()
        # A stream of requests is not inspected: it can be read only once.
        whole = not hasattr(request, "__aiter__")
        if write is None or (whole and not write.counts(request)):
            yield entry
            return
        line = _Line(identity, method.rsplit("/", 1)[-1], request_id(metadata))
        await self._add(line, "asked", write.asked(request) if whole else {})
        try:
            yield entry
        except BaseException as error:
            reason = as_safescale_error(error).reason if isinstance(error, Exception) else "CUT_OFF"
            await self._after(line, reason, {})
            raise
        await self._after(line, "done", write.done(entry.response))

    async def _after(self, line: "_Line", outcome: str, fields: Fields) -> None:
        try:
            await self._add(line, outcome, fields)
        except SafescaleError as error:
            # The work is done and stays so; the request is on record.
            get_logger("audit").error("entry not stored", request_id=line.request_id, reason=error.reason)

    async def _add(self, line: "_Line", outcome: str, fields: Fields) -> None:
        now = time.time_ns()
        kept = {name: value[:MAX_ID] for name, value in fields.items() if value}
        body = {
            "at_ns": now,
            "who": line.identity.name,
            "kind": line.identity.kind,
            "action": line.action,
            "outcome": outcome,
            "object": kept,
            "request_id": line.request_id,
        }
        # The random end keeps two entries of one moment apart.
        key = f"{now:020d}/{line.request_id}/{secrets.token_hex(4)}"
        await self._documents.put_if_absent(NewDocument(AUDIT, key, body))


@dataclass(frozen=True, slots=True)
class _Line:
    identity: Identity
    action: str
    request_id: str


def _write_of(method: str, identity: Identity) -> AuditedCall | None:
    role, write = WRITES_OF_SOME.get(method, (None, None))
    return write if role in identity.roles else WRITES.get(method)


def request_id(metadata: Mapping[str, Any]) -> str:
    """Id that the caller gave the request, else a new one."""
    given = metadata.get(REQUEST_ID, "")
    return given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
