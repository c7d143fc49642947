"""Answers requests for contexts that come over the bus. Whatever happens to one is an outcome that is announced.

Only that something we need cannot be reached is none: it says nothing about the context, and the bus brings the request
back.
"""

from safescale.core.errors import DependencyUnavailableError
from safescale.retrieval.contexts import Context, ContextBuilder, ContextRequest, Skipped
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus import topics
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.port import Bus, Message, Subscription, SubscriptionOptions
from safescale.runtime.errors import as_safescale_error, to_failure
from safescale.runtime.log import get_logger, log_context

GROUP = "retrieval"
IN_FLIGHT = 8


class ContextWorker:
    """Consumes context requests, publishes what came of them."""

    def __init__(self, bus: Bus, builder: ContextBuilder) -> None:
        self._bus = bus
        self._builder = builder
        self._subscription: Subscription | None = None
        self._log = get_logger("retrieval")

    async def start(self) -> None:
        """Start to consume."""
        options = SubscriptionOptions(max_in_flight=IN_FLIGHT)
        self._subscription = await self._bus.subscribe(topics.CONTEXT_REQUESTED, GROUP, self._handle, options)

    async def stop(self) -> None:
        """Finish what is in flight."""
        if self._subscription is not None:
            await self._subscription.stop()

    async def _handle(self, message: Message) -> None:
        request = events_pb2.ContextRequested.FromString(message.value)
        fields = {"run_id": request.run_id, "condition": request.condition, "question_id": request.question_id}
        with log_context(**fields, model=request.model):
            await self._publish(await self._answer(request))

    async def _answer(self, request: events_pb2.ContextRequested) -> events_pb2.ContextBuilt:
        answer = events_pb2.ContextBuilt(
            run_id=request.run_id,
            condition=request.condition,
            question_id=request.question_id,
            model=request.model,
            attempt=request.attempt,
        )
        wanted = ContextRequest(request.corpus_id, request.query, request.condition, request.model)
        try:
            built, answer.elapsed_s = await self._builder.build(wanted)
        except Exception as error:
            known = as_safescale_error(error)
            if isinstance(known, DependencyUnavailableError):
                raise known from error
            failure = to_failure(known)
            self._log.warning("context not built", reason=failure.reason, exception_type=type(error).__name__)
            answer.failure.CopyFrom(failure)
        else:
            _fill(answer, built)
        return answer

    async def _publish(self, answer: events_pb2.ContextBuilt) -> None:
        key = "/".join((answer.run_id, answer.condition, answer.question_id, answer.model))
        await self._bus.publish(event_message(topics.CONTEXT_BUILT, key, answer, answer.run_id, answer.attempt))


def _fill(answer: events_pb2.ContextBuilt, built: Context | Skipped) -> None:
    if isinstance(built, Skipped):
        answer.skipped_reason = built.reason
    else:
        answer.context.CopyFrom(common_pb2.ContextRef(context_id=built.context_id, token_count=built.token_count))
