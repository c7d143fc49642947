"""Consume the cells of each available model and publish their outcomes: answers, or the reason for a failure."""

import asyncio
import base64
import time
from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError

from safescale.core.errors import (
    DependencyUnavailableError,
    InvalidInputError,
    OutcomeTooLargeError,
    SafescaleError,
    StorageError,
)
from safescale.core.safety.cells import Cell, record_key
from safescale.inference import cells
from safescale.inference.backends.port import Backend
from safescale.inference.catalog import ModelRow
from safescale.inference.contexts import ContextReader
from safescale.inference.engine import Engine
from safescale.inference.run_ends import RunEnds
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.limits import MESSAGE_LIMIT, fits
from safescale.runtime.bus.port import Bus, Message, Subscription, SubscriptionOptions
from safescale.runtime.documents.port import DocumentStore, NewDocument
from safescale.runtime.errors import as_safescale_error, to_failure
from safescale.runtime.log import get_logger, log_context
from safescale.runtime.telemetry import Telemetry

GROUP = "inference"
KIND = "generation_cell"

LOOK_S = 2.0
"""Seconds between two checks of which models are available. A check only tests whether files exist."""


@dataclass(frozen=True)
class InferencePorts:
    """Dependencies of the worker."""

    bus: Bus
    documents: DocumentStore
    telemetry: Telemetry
    engine: Engine
    contexts: ContextReader
    ends: RunEnds


class GenerationWorker:
    """One subscription per available model, with as many cells in flight as its backend processes at once.

    Availability is checked repeatedly: cells of an unavailable model wait in its topic until it becomes available.
    """

    def __init__(self, ports: InferencePorts) -> None:
        self._ports = ports
        self._subscriptions: dict[str, Subscription] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._one_look = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._log = get_logger("inference")

    async def start(self) -> None:
        """Start consuming the topics of available models, and checking which models are available.

        Raises:
            BusUnavailableError: the bus does not answer.

        """
        for row in self._ports.engine.rows:
            # Cells of a run that is resumed at start wait for a model that becomes available later.
            await self._ports.bus.keep(topics.generation_requested(row.id), GROUP)
            if reason := self._ports.engine.backend(row.id).unavailable_reason():
                self._log.info("model not available", model=row.id, reason=reason)
        await self.look()
        self._looking = asyncio.create_task(self._look_on())

    async def look(self) -> None:
        """Subscribe to models that have become available, unsubscribe from those that no longer are.

        Raises:
            BusUnavailableError: the bus does not answer.

        """
        async with self._one_look:
            for row in self._ports.engine.rows:
                await self._look_at(row)

    async def _look_at(self, row: ModelRow) -> None:
        backend = self._ports.engine.backend(row.id)
        reason = backend.unavailable_reason()
        self._ports.telemetry.gauge("safescale_model_available", 0 if reason else 1, {"model": row.id})
        if not reason and row.id not in self._subscriptions and row.id not in self._leaving:
            options = SubscriptionOptions(max_in_flight=_in_flight(backend))
            topic = topics.generation_requested(row.id)
            self._subscriptions[row.id] = await self._ports.bus.subscribe(topic, GROUP, self._handle, options)
            self._log.info("cells of a model are asked", model=row.id)
        elif reason and row.id in self._subscriptions:
            self._log.warning("model not available any more; its cells wait", model=row.id, reason=reason)
            # Its cells in flight may take long to finish; the other models are checked meanwhile.
            leaving = asyncio.create_task(self._subscriptions.pop(row.id).stop())
            self._leaving[row.id] = leaving
            leaving.add_done_callback(lambda _: self._leaving.pop(row.id, None))

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for row in self._ports.engine.rows:
                # A model whose topic is missing does not delay the others.
                try:
                    async with self._one_look:
                        await self._look_at(row)
                except SafescaleError as error:
                    self._log.warning("model not looked at", model=row.id, reason=error.reason)

    async def stop(self) -> None:
        """Stop taking cells and finish those in flight."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        stopping = [subscription.stop() for subscription in self._subscriptions.values()]
        self._subscriptions.clear()
        await asyncio.gather(*stopping, *self._leaving.values())

    async def _handle(self, message: Message) -> None:
        try:
            request = events_pb2.GenerationRequested.FromString(message.value)
        except DecodeError as error:
            raise InvalidInputError("the message is not a GenerationRequested") from error
        cell = _cell_of(request)
        with log_context(run_id=cell.run_id, model=cell.model, condition=cell.condition, question_id=cell.question_id):
            key = record_key(cell, request.attempt)
            event = await self._stored(key)
            if event is None and not self._ports.ends.wants(request):
                self._log.info("cell of a run that was stopped is not asked", attempt=request.attempt)
                return
            if event is None:
                completed = await self._complete(request, message)
                event = completed.SerializeToString()
                if not await self._ports.documents.put_if_absent(_document(key, completed, event)):
                    event = await self._stored(key) or event
            outcome = _outcome(message, cell.cell_id, event)
            if not fits(outcome):
                # Stored by a version that did not check its size.
                outcome = replace(outcome, value=_failed(request, _too_large(outcome)).SerializeToString())
            await self._ports.bus.publish(outcome)

    async def _stored(self, key: str) -> bytes | None:
        document = await self._ports.documents.get(KIND, key)
        return None if document is None else base64.b64decode(document.body["event"])

    async def _complete(
        self, request: events_pb2.GenerationRequested, message: Message
    ) -> events_pb2.GenerationCompleted:
        """Return the outcome of a cell; an error of the cell is an outcome, too.

        Raises:
            DependencyUnavailableError: retrieval or the store cannot be reached, which is no fault of the cell.
            StorageError: the outcome cannot be stored, as on a full disk, which is none either.

        """
        completed = _blank(request)
        waited = _since(request)
        try:
            context = await self._ports.contexts.text(request.context)
            rendered = cells.checked(request, context)
            waited = _since(request)
            waited += await cells.ask(self._ports.engine, rendered, completed)
            event = _outcome(message, _cell_of(request).cell_id, completed.SerializeToString())
            if not fits(event):
                raise _too_large(event)
            outcome = "cached" if completed.cached else "ok"
        except (DependencyUnavailableError, StorageError):
            raise
        except Exception as error:
            known = as_safescale_error(error)
            completed = _failed(request, known)
            outcome = known.reason
            self._log.warning("cell failed", reason=known.reason, code=known.code, exception_type=type(error).__name__)
        completed.timings.queue_wait_s = waited
        labels = {"model": request.cell.model, "condition": request.cell.condition}
        self._ports.telemetry.observe("safescale_queue_wait_seconds", waited, labels)
        self._ports.telemetry.count("safescale_generations_total", 1, {**labels, "outcome": outcome})
        return completed


def _in_flight(backend: Backend) -> int:
    """Return the number of cells in flight at once.

    A backend that leases its capacity call by call gets half as many again: some cells are read and stored while
    others wait for the model, so that no capacity is idle.
    """
    concurrency = backend.capabilities.concurrency
    return concurrency + concurrency // 2 if backend.capabilities.repeats else concurrency


def _cell_of(request: events_pb2.GenerationRequested) -> Cell:
    named = request.cell
    return Cell(named.run_id, named.model, named.condition, named.question_id)


def _blank(request: events_pb2.GenerationRequested) -> events_pb2.GenerationCompleted:
    return events_pb2.GenerationCompleted(
        cell=request.cell,
        formulation=request.formulation,
        attempt=request.attempt,
        greedy_asked=request.greedy,
        samples_asked=request.sample_count,
        context_id=request.context.context_id,
    )


def _failed(request: events_pb2.GenerationRequested, error: SafescaleError) -> events_pb2.GenerationCompleted:
    completed = _blank(request)
    completed.failure.CopyFrom(to_failure(error))
    return completed


def _outcome(request: Message, key: str, event: bytes) -> Message:
    headers = {**request.headers, "message-type": events_pb2.GenerationCompleted.DESCRIPTOR.full_name}
    return Message(topics.GENERATION_COMPLETED, key, event, headers)


def _too_large(outcome: Message) -> OutcomeTooLargeError:
    return OutcomeTooLargeError(
        f"the answers of the cell have {len(outcome.value):,} bytes; a message of the bus holds {MESSAGE_LIMIT:,}: "
        "ask for fewer samples or fewer new tokens"
    )


def _since(request: events_pb2.GenerationRequested) -> float:
    if not request.HasField("requested_at"):
        return 0.0
    # Clocks of two machines can differ, but a wait is never negative.
    return max(0.0, time.time() - request.requested_at.ToNanoseconds() / 1e9)


def _document(key: str, completed: events_pb2.GenerationCompleted, event: bytes) -> NewDocument:
    body = {
        "model": completed.cell.model,
        "condition": completed.cell.condition,
        "question_id": completed.cell.question_id,
        "failure": completed.failure.reason,
        "event": base64.b64encode(event).decode(),
    }
    return NewDocument(KIND, key, body, completed.cell.run_id)
