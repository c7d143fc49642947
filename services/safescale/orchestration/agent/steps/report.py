"""REPORT: introduction, analysis and conclusion, stored as a context."""

from safescale.orchestration.agent.prompts import conclusion_prompt
from safescale.orchestration.agent.reading import read_conclusion
from safescale.orchestration.agent.report import assemble, plain_conclusion
from safescale.orchestration.agent.state import add_call, cited_chunks, copy_of, findings_of
from safescale.orchestration.agent.text import terms
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

FALLBACK = "conclusion made from the counts of cited evidence"


async def compile_report(research: pb.Research, agent: Agent, tools: Tools) -> pb.Research:
    """Ask the model for the conclusion, once; assemble the report and store it."""
    state = copy_of(research)
    findings = findings_of(state)
    prompt = conclusion_prompt(findings.question, findings.sections)
    written, call = await tools.generate(agent, pb.RESEARCH_STEP_REPORT, prompt)
    conclusion = read_conclusion(written, findings.titles.keys(), terms(prompt.user))
    if conclusion.text is None:
        call.fallback = FALLBACK
    elif conclusion.removed:
        call.fallback = f"citations without passage removed: {', '.join(map(str, conclusion.removed))}"
    add_call(state, call)
    state.report = assemble(findings, plain_conclusion(findings) if conclusion.text is None else conclusion.text)
    context = await tools.put_report(state.report, cited_chunks(state), state.corpus_id)
    state.context_id = context.context_id
    state.step = pb.RESEARCH_STEP_DONE
    return state
