"""The steps of the research agent, each a function from state to state."""

from collections.abc import Awaitable, Callable, Mapping

from safescale.orchestration.agent.steps.concepts import extract_concepts
from safescale.orchestration.agent.steps.plan import write_plan
from safescale.orchestration.agent.steps.report import compile_report
from safescale.orchestration.agent.steps.search import search_once
from safescale.orchestration.agent.steps.sections import write_section
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

Step = Callable[[pb.Research, Agent, Tools], Awaitable[pb.Research]]
"""Takes a state and gives the next one; the state given is not changed. Raises SafescaleError when a call failed."""

STEPS: Mapping[int, Step] = {
    pb.RESEARCH_STEP_CONCEPTS: extract_concepts,
    pb.RESEARCH_STEP_PLAN: write_plan,
    pb.RESEARCH_STEP_SEARCH: search_once,
    pb.RESEARCH_STEP_SECTIONS: write_section,
    pb.RESEARCH_STEP_REPORT: compile_report,
}
"""The function of each step."""
