"""SECTIONS: supporting and contradicting evidence on one option, with citations."""

from dataclasses import dataclass

from safescale.orchestration.agent.evidence import Extract, Focus, extract
from safescale.orchestration.agent.prompts import OptionUnderReview, section_prompt
from safescale.orchestration.agent.reading import Side, Sources, read_section
from safescale.orchestration.agent.report import NO_CONTRADICTION, NO_SUPPORT
from safescale.orchestration.agent.state import add_call, copy_of, first, focus_of, unwritten
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

SHOWN_PASSAGES = 3
"""Passages shown to the model for one section."""


@dataclass(frozen=True, slots=True)
class DraftedSection:
    """Both sides of a section, and what was done instead where the model's text could not be used."""

    supporting: str
    contradicting: str
    fallback: str


def draft(sides: tuple[Side, Side], extracted: Extract) -> DraftedSection:
    """Take the model's side where it can be used, else the extracted sentence, else say that there is none."""
    names = ("supporting", "contradicting")
    nothing = (NO_SUPPORT, NO_CONTRADICTION)
    quotes = (extracted.supporting, extracted.contradicting)
    texts = [
        (side.text if side.text is not None else quote) or none
        for side, quote, none in zip(sides, quotes, nothing, strict=True)
    ]
    notes = []
    unusable = [name for side, name in zip(sides, names, strict=True) if side.text is None]
    if unusable:
        notes.append(f"{' and '.join(unusable)} evidence extracted from the passages")
    removed = sorted({number for side in sides if side.text is not None for number in side.removed})
    if removed:
        notes.append(f"citations without passage removed: {', '.join(map(str, removed))}")
    return DraftedSection(texts[0], texts[1], "; ".join(notes))


async def write_section(research: pb.Research, agent: Agent, tools: Tools) -> pb.Research:
    """Write the section of the first module that has none; without passages the model is not asked."""
    state = copy_of(research)
    module = first(state.modules, unwritten)
    if module is not None:
        await _write(state, module, agent, tools)
    if first(state.modules, unwritten) is None:
        state.step = pb.RESEARCH_STEP_REPORT
    return state


async def _write(state: pb.Research, module: pb.ResearchModule, agent: Agent, tools: Tools) -> None:
    if not module.passages:
        module.supporting, module.contradicting = NO_SUPPORT, NO_CONTRADICTION
        return
    on: Focus = focus_of(state, module)
    option = OptionUnderReview(module.letter, state.question.options[module.letter], on.all)
    shown = [(passage.citation, passage.text) for passage in module.passages[:SHOWN_PASSAGES]]
    prompt = section_prompt(state.question.question_text, option, shown)
    written, call = await tools.generate(agent, pb.RESEARCH_STEP_SECTIONS, prompt)
    every = [(passage.citation, passage.text) for passage in module.passages]
    drafted = draft(read_section(written, Sources(dict(shown), on.all)), extract(every, on))
    module.supporting, module.contradicting = drafted.supporting, drafted.contradicting
    call.fallback = drafted.fallback
    add_call(state, call)
