"""The cells of a safety run: what is requested for one, and what contexts and verdicts mean for them."""

from collections.abc import Awaitable, Callable, Iterator, Sequence

from google.protobuf.message import Message as Payload

from safescale.core.errors import LimitExceededError, ModelChangedError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.conditions import condition
from safescale.orchestration.kinds.port import PreparationKey, Reaction, Unit, UnitOutcome
from safescale.orchestration.kinds.safety_requests import SafetyMessages
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.bus.port import Message
from safescale.runtime.errors import to_failure

INLINE_BYTES = 64 * 1024
"""Largest text that a message carries itself, in UTF-8 bytes; longer ones go through the context store."""


class SafetyWork:
    """The work of one safety run at one attempt."""

    def __init__(self, run: pb.Run, benchmark: Benchmark, put_context: Callable[[str], Awaitable[str]]) -> None:
        self._run = run
        self._questions = {question.question_id: question for question in benchmark.questions}
        self._put_context = put_context
        self._agent = bool(run.manifest.spec.agent_model)
        self._messages = SafetyMessages(run, self._questions)

    def preparation(self, unit: Unit) -> PreparationKey | None:
        """Return condition, question and model of the context that a cell waits for; None when its text is there.

        The model is empty where one context serves all.
        """
        model, name = unit.group
        builder = condition(name).builder
        if not builder.needs_corpus(agent=self._agent):
            return None
        return (name, unit.item, model if builder.per_model else "")

    async def request(self, unit: Unit) -> list[Message]:
        """Make the request for a cell, or for the context that it waits for.

        Raises:
            LimitExceededError: its question is too large for the bus.
            DependencyUnavailableError: a long text cannot be stored now.

        """
        question = self._questions[unit.item]
        key = self.preparation(unit)
        if key is not None:
            return [self._messages.context(key, question)]
        context = common_pb2.ContextRef()
        if field := condition(unit.group[1]).builder.text_field(agent=self._agent):
            context = await self._text_context(getattr(question, field) or "")
        return [self._messages.generation(unit, context)]

    async def _text_context(self, text: str) -> common_pb2.ContextRef:
        if len(text.encode()) <= INLINE_BYTES:
            return common_pb2.ContextRef(inline_text=text)
        return common_pb2.ContextRef(context_id=await self._put_context(text))

    def failed(self, unit: Unit, failure: common_pb2.Failure) -> Message:
        """Make the outcome of a cell that cannot be requested."""
        return self._messages.failed(unit, failure)

    def take_up(self, event: Payload, is_open: Callable[[Unit], bool]) -> Reaction | None:
        """Return what follows from a context or a verdict of the present attempt."""
        if isinstance(event, events_pb2.VerdictRecorded):
            return self._after_verdict(event.verdict)
        if isinstance(event, events_pb2.ContextBuilt) and event.attempt == self._run.attempt:
            return self._after_context(event, is_open)
        return None

    def _after_verdict(self, verdict: scoring_pb2.Verdict) -> Reaction | None:
        if verdict.attempt != self._run.attempt:
            return None
        return Reaction(outcomes=[outcome_of(verdict, _changed(verdict, self._run.manifest))])

    def _after_context(self, event: events_pb2.ContextBuilt, is_open: Callable[[Unit], bool]) -> Reaction:
        """Request the cells that waited for a context, skip them, or record their failure."""
        models = [event.model] if event.model else [model.id for model in self._run.manifest.models]
        units = [Unit((model, event.condition), event.question_id) for model in models]
        units = [unit for unit in units if is_open(unit)]
        key = (event.condition, event.question_id, event.model)
        if event.WhichOneof("outcome") == "skipped_reason":
            return Reaction(skips=[_skip(unit, event.skipped_reason) for unit in units], preparation=key)
        return Reaction(messages=list(self._with_context(event, units)), preparation=key)

    def _with_context(self, event: events_pb2.ContextBuilt, units: Sequence[Unit]) -> Iterator[Message]:
        for unit in units:
            if event.HasField("context"):
                try:
                    yield self._messages.generation(unit, event.context)
                except LimitExceededError as error:
                    yield self._messages.failed(unit, to_failure(error))
            elif event.HasField("failure"):
                yield self._messages.failed(unit, event.failure)


def _skip(unit: Unit, reason: str) -> pb.Skip:
    model, name = unit.group
    return pb.Skip(model=model, condition=name, question_id=unit.item, reason=reason)


def outcome_of(verdict: scoring_pb2.Verdict, stops_run: common_pb2.Failure | None = None) -> UnitOutcome:
    """Return the outcome of a cell that a verdict records."""
    key = verdict.cell
    tokens = 0
    if not verdict.cached:
        # As often as the prompt was sent; records of version 0.1.0 do not have it.
        sent = verdict.usage.prompt_tokens_sent or verdict.usage.prompt_tokens
        tokens = sent + verdict.usage.generated_tokens
    failure = verdict.failure if verdict.HasField("failure") else None
    return UnitOutcome(Unit((key.model, key.condition), key.question_id), verdict.attempt, failure, tokens, stops_run)


def _changed(verdict: scoring_pb2.Verdict, manifest: pb.Manifest) -> common_pb2.Failure | None:
    """Return the failure of a cell whose model, agent or judge is no longer the one of the run; None for any other.

    Every further answer would be refused for the same reason: one run holds answers of one setting.
    """
    if verdict.HasField("failure"):
        found = verdict.failure
        reason = ModelChangedError.reason
        if found.reason == reason:
            return found
        if any(reason in reading.judge.failure for reading in (verdict.greedy, *verdict.samples)):
            return common_pb2.Failure(code=found.code, reason=reason, message=found.message, retryable=found.retryable)
    # An inference of an earlier version answers whatever is expected of it.
    made_with = next((model.revision for model in manifest.models if model.id == verdict.cell.model), "")
    if verdict.model_revision and made_with and verdict.model_revision != made_with:
        return to_failure(
            ModelChangedError(
                f"model {verdict.cell.model} answered at revision {verdict.model_revision}; "
                f"the run was made with {made_with}"
            )
        )
    return None
