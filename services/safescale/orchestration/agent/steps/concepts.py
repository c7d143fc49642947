"""CONCEPTS: the key diagnostic concepts of the question."""

from safescale.orchestration.agent.prompts import concepts_prompt
from safescale.orchestration.agent.reading import MAX_CONCEPTS, read_concepts
from safescale.orchestration.agent.state import add_call, copy_of
from safescale.orchestration.agent.text import clip, terms
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

FALLBACK = "key terms of the question taken as concepts"


def plain_concepts(question_text: str) -> list[str]:
    """Return the longest key terms of the question in its order, at most six; the question itself where it has none."""
    found = terms(question_text)
    chosen = set(sorted(found, key=lambda term: (-len(term), term))[:MAX_CONCEPTS])
    return [term for term in found if term in chosen] or [clip(question_text, 80)]


async def extract_concepts(research: pb.Research, agent: Agent, tools: Tools) -> pb.Research:
    """Ask the model for concepts, once. Without usable text: key terms of the question."""
    question = research.question.question_text
    written, call = await tools.generate(agent, pb.RESEARCH_STEP_CONCEPTS, concepts_prompt(question))
    found = read_concepts(written, question)
    if found is None:
        call.fallback = FALLBACK
        found = plain_concepts(question)
    state = copy_of(research)
    state.concepts.extend(found)
    add_call(state, call)
    state.step = pb.RESEARCH_STEP_PLAN
    return state
