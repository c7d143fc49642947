import pytest

from safescale.orchestration.agent.state import add_call, first, number_passages, pending_step, searching, unwritten
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

SEARCHED = pb.ResearchModule(letter="A", queries=["q"])
THIN = pb.ResearchModule(letter="B", queries=["q"], thin=True)
EXHAUSTED = pb.ResearchModule(letter="C", queries=["q", "r"], thin=True)
WRITTEN = pb.ResearchModule(letter="D", queries=["q"], supporting="s", contradicting="c")


@pytest.mark.parametrize(
    ("research", "step"),
    [
        (pb.Research(), pb.RESEARCH_STEP_CONCEPTS),
        (pb.Research(concepts=["c"]), pb.RESEARCH_STEP_PLAN),
        (pb.Research(concepts=["c"], modules=[pb.ResearchModule(letter="A")]), pb.RESEARCH_STEP_SEARCH),
        (pb.Research(concepts=["c"], modules=[SEARCHED, THIN]), pb.RESEARCH_STEP_SEARCH),
        (pb.Research(concepts=["c"], modules=[SEARCHED, EXHAUSTED]), pb.RESEARCH_STEP_SECTIONS),
        (pb.Research(concepts=["c"], modules=[WRITTEN]), pb.RESEARCH_STEP_REPORT),
        (pb.Research(concepts=["c"], modules=[WRITTEN], context_id="x"), pb.RESEARCH_STEP_DONE),
    ],
)
def test_the_next_step_is_told_from_what_is_there(research: pb.Research, step: int) -> None:
    assert pending_step(research) == step


def test_a_thin_module_is_searched_twice_and_another_once() -> None:
    assert [searching(module) for module in (pb.ResearchModule(), SEARCHED, THIN, EXHAUSTED)] == [
        True,
        False,
        True,
        False,
    ]


def test_the_first_module_that_passes() -> None:
    assert first([WRITTEN, SEARCHED, THIN], unwritten) == SEARCHED
    assert first([WRITTEN], unwritten) is None


def test_numbers_follow_modules_and_ranks() -> None:
    def module(*chunks: str) -> pb.ResearchModule:
        return pb.ResearchModule(passages=[pb.Passage(chunk_id=chunk) for chunk in chunks])

    research = pb.Research(modules=[module("b", "a"), module(), module("c", "b")])
    number_passages(research)
    assert [[passage.citation for passage in part.passages] for part in research.modules] == [[1, 2], [], [3, 1]]


def test_calls_add_up() -> None:
    research = pb.Research()
    add_call(research, pb.AgentCall(tokens=3, elapsed_s=0.5))
    add_call(research, pb.AgentCall(tokens=4, elapsed_s=0.25))
    assert (len(research.calls), research.tokens, research.elapsed_s) == (2, 7, 0.75)
