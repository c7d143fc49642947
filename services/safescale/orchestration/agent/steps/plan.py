"""PLAN: a module for each answer option, with what it shall find out."""

from collections.abc import Sequence

from safescale.orchestration.agent.prompts import plan_prompt
from safescale.orchestration.agent.reading import read_plan
from safescale.orchestration.agent.state import add_call, copy_of
from safescale.orchestration.agent.text import clip
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb


def plain_objective(option_text: str, concepts: Sequence[str]) -> str:
    """Objective of a module without a model."""
    return f"Evidence for and against “{clip(option_text, 200)}” given {', '.join(concepts)}"


async def write_plan(research: pb.Research, agent: Agent, tools: Tools) -> pb.Research:
    """Ask the model for all objectives at once. An option without a usable line gets the plain objective."""
    options = dict(sorted(research.question.options.items()))
    prompt = plan_prompt(research.question.question_text, options, research.concepts)
    written, call = await tools.generate(agent, pb.RESEARCH_STEP_PLAN, prompt)
    found = read_plan(written, options)
    missing = [letter for letter in options if letter not in found]
    if missing:
        call.fallback = f"objective made from option and concepts for {', '.join(missing)}"
    state = copy_of(research)
    for letter, text in options.items():
        objective = found.get(letter) or plain_objective(text, research.concepts)
        state.modules.append(pb.ResearchModule(letter=letter, objective=objective))
    add_call(state, call)
    state.step = pb.RESEARCH_STEP_SEARCH
    return state
