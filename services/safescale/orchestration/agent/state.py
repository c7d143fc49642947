"""What the state of a research means: which module is open, which step comes next, how passages are numbered. Pure."""

from collections.abc import Callable, Sequence

from safescale.core.safety.research import ResearchSubject, research_id
from safescale.orchestration.agent.evidence import MAX_ROUNDS, Focus, focus
from safescale.orchestration.agent.prompts import Section
from safescale.orchestration.agent.report import ReportContent, source_numbers
from safescale.orchestration.agent.tools import Agent
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

STEP_NAMES = {
    pb.RESEARCH_STEP_CONCEPTS: "concepts",
    pb.RESEARCH_STEP_PLAN: "plan",
    pb.RESEARCH_STEP_SEARCH: "search",
    pb.RESEARCH_STEP_SECTIONS: "sections",
    pb.RESEARCH_STEP_REPORT: "report",
    pb.RESEARCH_STEP_DONE: "done",
    pb.RESEARCH_STEP_FAILED: "failed",
}
"""Names of the steps in metrics and logs."""


def id_of(request: pb.ResearchRequest, agent: Agent) -> str:
    """Return the identifier of the research that a request asks for."""
    stem = request.question
    return research_id(
        ResearchSubject(
            stem.question_id,
            stem.question_text,
            dict(stem.options),
            request.corpus_id,
            request.agent_model,
            agent.revision,
            agent.fingerprint,
            request.run_id,
        )
    )


def begin(request: pb.ResearchRequest, identifier: str) -> pb.Research:
    """State before the first step."""
    return pb.Research(
        research_id=identifier,
        step=pb.RESEARCH_STEP_CONCEPTS,
        question=request.question,
        corpus_id=request.corpus_id,
        agent_model=request.agent_model,
    )


def copy_of(research: pb.Research) -> pb.Research:
    """Copy a state to change: a step never changes the state it was given."""
    copied = pb.Research()
    copied.CopyFrom(research)
    return copied


def add_call(research: pb.Research, call: pb.AgentCall) -> None:
    """Add a call and its tokens and seconds to the totals."""
    research.calls.append(call)
    research.tokens += call.tokens
    research.elapsed_s += call.elapsed_s


def searching(module: pb.ResearchModule) -> bool:
    """Whether a module has a search before it: none was made, or the evidence is thin and a round is left."""
    return not module.queries or (module.thin and len(module.queries) < MAX_ROUNDS)


def unwritten(module: pb.ResearchModule) -> bool:
    """Whether a module's section is still to be written."""
    return not module.supporting


def first(modules: Sequence[pb.ResearchModule], test: Callable[[pb.ResearchModule], bool]) -> pb.ResearchModule | None:
    """First module that passes a test; None when there is none."""
    return next((module for module in modules if test(module)), None)


def pending_step(research: pb.Research) -> "pb.ResearchStep.ValueType":
    """Return the next step, derived from what is stored: so a failed research continues."""
    if research.context_id:
        return pb.RESEARCH_STEP_DONE
    if not research.concepts:
        return pb.RESEARCH_STEP_CONCEPTS
    if not research.modules:
        return pb.RESEARCH_STEP_PLAN
    if first(research.modules, searching) is not None:
        return pb.RESEARCH_STEP_SEARCH
    if first(research.modules, unwritten) is not None:
        return pb.RESEARCH_STEP_SECTIONS
    return pb.RESEARCH_STEP_REPORT


def number_passages(research: pb.Research) -> None:
    """Give each chunk a number from 1 by module and rank, the same wherever it occurs."""
    numbers: dict[str, int] = {}
    for module in research.modules:
        for passage in module.passages:
            passage.citation = numbers.setdefault(passage.chunk_id, len(numbers) + 1)


def focus_of(research: pb.Research, module: pb.ResearchModule) -> Focus:
    """Return what a module searches for."""
    question = research.question
    return focus(question.question_text, question.options[module.letter], research.concepts)


def findings_of(research: pb.Research) -> ReportContent:
    """Return the content of the report."""
    options = research.question.options
    return ReportContent(
        question=research.question.question_text,
        concepts=tuple(research.concepts),
        sections=tuple(
            Section(module.letter, options[module.letter], module.supporting, module.contradicting)
            for module in research.modules
        ),
        thin=tuple(module.letter for module in research.modules if module.thin),
        titles={passage.citation: passage.title for module in research.modules for passage in module.passages},
    )


def cited_chunks(research: pb.Research) -> list[str]:
    """Chunks that the report cites, by citation number."""
    chunks = {passage.citation: passage.chunk_id for module in research.modules for passage in module.passages}
    return [chunks[number] for number in source_numbers(research.report) if number in chunks]
