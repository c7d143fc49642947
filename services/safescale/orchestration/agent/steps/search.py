"""SEARCH: one round of one module; the query is refined where the evidence is thin."""

from collections.abc import Iterable

from safescale.orchestration.agent.evidence import first_query, is_thin, rank, refined_query
from safescale.orchestration.agent.prompts import refine_prompt
from safescale.orchestration.agent.reading import read_query
from safescale.orchestration.agent.state import add_call, copy_of, first, focus_of, number_passages, searching
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2

FALLBACK = "query made from key terms of option and question"


async def search_once(research: pb.Research, agent: Agent, tools: Tools) -> pb.Research:
    """Search for the first module that still needs it, judge whether its evidence is thin.

    When no module needs a search any more, the passages are numbered and the step ends.
    """
    state = copy_of(research)
    module = first(state.modules, searching)
    if module is not None:
        query = await _query(state, module, agent, tools)
        hits, call = await tools.search(state.corpus_id, query)
        add_call(state, call)
        module.queries.append(query)
        _keep(state, module, hits)
    if first(state.modules, searching) is None:
        number_passages(state)
        state.step = pb.RESEARCH_STEP_SECTIONS
    return state


async def _query(state: pb.Research, module: pb.ResearchModule, agent: Agent, tools: Tools) -> str:
    question = state.question.question_text
    option = state.question.options[module.letter]
    if not module.queries:
        return first_query(question, option, module.objective, state.concepts)
    prompt = refine_prompt(question, option, module.queries)
    written, call = await tools.generate(agent, pb.RESEARCH_STEP_SEARCH, prompt)
    query = read_query(written, module.queries, focus_of(state, module).all)
    if query is None:
        call.fallback = FALLBACK
        query = refined_query(question, option, module.queries, [passage.text for passage in module.passages])
    add_call(state, call)
    return query


def _keep(state: pb.Research, module: pb.ResearchModule, hits: Iterable[retrieval_pb2.Hit]) -> None:
    """Add hits that are new to the module, keep the best passages, judge thinness by them."""
    pool = {passage.chunk_id: passage for passage in module.passages}
    for hit in hits:
        new = pb.Passage(chunk_id=hit.chunk_id, title=hit.title, text=hit.text, query=module.queries[-1])
        pool.setdefault(hit.chunk_id, new)
    passages = list(pool.values())
    on = focus_of(state, module)
    kept = [passages[index] for index in rank([passage.text for passage in passages], on)]
    del module.passages[:]
    module.passages.extend(kept)
    module.thin = is_thin([passage.text for passage in kept], on)
