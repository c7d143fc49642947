"""The messages of a safety run: requests for contexts, researches and cells."""

from collections.abc import Callable, Mapping

from google.protobuf.message import Message as Payload

from safescale.core.errors import LimitExceededError
from safescale.core.safety.benchmark.benchmark import Question
from safescale.core.safety.builders import AgentReport, Builder, MaxContext, Padded, TopK
from safescale.core.safety.cells import Cell
from safescale.core.safety.conditions import condition
from safescale.core.safety.regimes import cell_seed
from safescale.orchestration.kinds.port import PreparationKey, Unit
from safescale.orchestration.store import stamp_after
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import stem_to_proto
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.bus import topics
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.limits import fits, limit_of, size_of
from safescale.runtime.bus.port import Message


class SafetyMessages:
    """Makes the messages of a run at one attempt."""

    def __init__(self, run: pb.Run, questions: Mapping[str, Question]) -> None:
        self._run = run
        self._questions = questions
        self._stems: dict[str, common_pb2.QuestionStem] = {}
        self._models = {model.id: model for model in run.manifest.models}

    def context(self, key: PreparationKey, question: Question) -> Message:
        """Request the context of a question, or the research that makes it, by condition, question id and model.

        Raises:
            LimitExceededError: the question is too large for the bus.

        """
        return REQUESTS[type(condition(key[0]).builder)](self, key, question)

    def _research(self, key: PreparationKey, question: Question) -> Message:
        name, question_id, _ = key
        manifest = self._run.manifest
        spec = manifest.spec
        research = events_pb2.ResearchRequested(
            run_id=self._run.run_id,
            condition=name,
            question=stem_to_proto(question),
            corpus_id=spec.corpus_id,
            agent_model=spec.agent_model,
            attempt=self._run.attempt,
            agent_revision=manifest.agent_revision,
            agent_fingerprint=manifest.agent.fingerprint,
            fresh=spec.fresh,
        )
        return self._message(topics.RESEARCH_REQUESTED, f"{self._run.run_id}/{question_id}", research)

    def _context(self, key: PreparationKey, question: Question) -> Message:
        name, question_id, model = key
        request = events_pb2.ContextRequested(
            run_id=self._run.run_id,
            condition=name,
            question_id=question_id,
            model=model,
            corpus_id=self._run.manifest.spec.corpus_id,
            query=question.text,
            attempt=self._run.attempt,
        )
        return self._message(topics.CONTEXT_REQUESTED, "/".join((self._run.run_id, *key)), request)

    def generation(self, unit: Unit, context: common_pb2.ContextRef) -> Message:
        """Request a cell.

        Raises:
            LimitExceededError: its question is too large for the bus.

        """
        spec = self._run.manifest.spec
        cell = self._cell(unit)
        model = self._models[cell.model]
        request = events_pb2.GenerationRequested(
            cell=_cell_key(cell),
            question=self._stem(cell.question_id),
            formulation=model.formulation,
            greedy=spec.greedy,
            sample_count=spec.samples,
            temperature=spec.temperature,
            max_new_tokens=model.max_new_tokens,
            seed=cell_seed(spec.seed, cell.model, cell.condition, cell.question_id),
            fresh=spec.fresh,
            attempt=self._run.attempt,
            requested_at=stamp_after(self._run.resumed_from),
            model_revision=model.revision,
            model_fingerprint=model.fingerprint,
        )
        if context.WhichOneof("source"):
            request.context.CopyFrom(context)
        return self._message(topics.generation_requested(cell.model), cell.cell_id, request)

    def _cell(self, unit: Unit) -> Cell:
        return Cell(self._run.run_id, *unit.group, unit.item)

    def _stem(self, question_id: str) -> common_pb2.QuestionStem:
        stem = self._stems.get(question_id)
        if stem is None:
            stem = self._stems[question_id] = stem_to_proto(self._questions[question_id])
        return stem

    def _message(self, topic: str, key: str, payload: Payload) -> Message:
        """Make the message of an event.

        Raises:
            LimitExceededError: the bus would not take it, such as for the length of a question.

        """
        message = event_message(topic, key, payload, self._run.run_id, self._run.attempt)
        if not fits(message):
            raise LimitExceededError(
                f"the request for the cell has {size_of(message):,} bytes; a message of the bus holds "
                f"{limit_of(topic):,}: shorten the question or its options"
            )
        return message

    def failed(self, unit: Unit, failure: common_pb2.Failure) -> Message:
        """Make the outcome of a cell that cannot be requested."""
        spec = self._run.manifest.spec
        cell = self._cell(unit)
        outcome = events_pb2.GenerationCompleted(
            cell=_cell_key(cell),
            formulation=self._models[cell.model].formulation,
            failure=failure,
            attempt=self._run.attempt,
            greedy_asked=spec.greedy,
            samples_asked=spec.samples,
        )
        return self._message(topics.GENERATION_COMPLETED, cell.cell_id, outcome)


REQUESTS: Mapping[type[Builder], Callable[[SafetyMessages, PreparationKey, Question], Message]] = {
    TopK: SafetyMessages._context,
    Padded: SafetyMessages._context,
    MaxContext: SafetyMessages._context,
    AgentReport: SafetyMessages._research,
}
"""How the context of each builder is requested, where it has to be built."""


def _cell_key(cell: Cell) -> common_pb2.CellKey:
    return common_pb2.CellKey(
        run_id=cell.run_id, model=cell.model, condition=cell.condition, question_id=cell.question_id
    )
