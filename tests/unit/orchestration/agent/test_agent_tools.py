import pytest

from safescale.core.errors import BackendOverloadedError, BackendUnavailableError, GarbageAnswerError
from safescale.orchestration.agent.prompts import Prompt
from safescale.orchestration.agent.reading import GeneratedText
from safescale.orchestration.agent.tools import Agent, Tools
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

from .conftest import World

AGENT = Agent("agent", "r1", reasoning=False)
PROMPT = Prompt("List the key diagnostic concepts of this question.", 40)


def tools(world: World, retries: int) -> Tools:
    return Tools(lambda: world.channel, lambda: world.channel, (0.0,) * retries)


async def test_a_service_that_is_not_reached_is_asked_again(world: World) -> None:
    failures = [BackendUnavailableError("gone")] * 2

    def write(_prompt: str) -> str:
        if failures:
            raise failures.pop()
        return "  written \n"

    world.inference.write = write
    written, call = await tools(world, 2).generate(AGENT, pb.RESEARCH_STEP_PLAN, PROMPT)
    assert written == GeneratedText("written", cut=False)
    assert call == pb.AgentCall(step=pb.RESEARCH_STEP_PLAN, kind="generate", elapsed_s=0.25, tokens=105)
    assert len(world.inference.asked) == 3


async def test_a_service_that_stays_away_is_a_failure(world: World) -> None:
    def write(_prompt: str) -> str:
        raise BackendUnavailableError("gone")

    world.inference.write = write
    with pytest.raises(BackendUnavailableError, match="gone"):
        await tools(world, 2).generate(AGENT, pb.RESEARCH_STEP_PLAN, PROMPT)
    assert len(world.inference.asked) == 3


async def test_other_failures_are_not_repeated(world: World) -> None:
    def full() -> None:
        searched.append(1)
        raise BackendOverloadedError("too much")

    searched: list[int] = []
    world.retrieval.before = full
    with pytest.raises(BackendOverloadedError):
        await tools(world, 2).search("corpus", "query")
    assert len(searched) == 1


async def test_an_answer_without_output_is_garbage(world: World) -> None:
    world.inference.outputs = 0
    with pytest.raises(GarbageAnswerError, match="0 outputs"):
        await tools(world, 0).generate(AGENT, pb.RESEARCH_STEP_PLAN, PROMPT)


async def test_a_text_that_ended_at_its_bound_is_marked_as_cut(world: World) -> None:
    world.inference.finish_reason = "length"
    written, _ = await tools(world, 0).generate(AGENT, pb.RESEARCH_STEP_PLAN, PROMPT)
    assert written.cut


async def test_the_model_is_asked_greedily_with_its_bound(world: World) -> None:
    await tools(world, 0).generate(AGENT, pb.RESEARCH_STEP_PLAN, PROMPT)
    sampling = world.inference.asked[0].sampling
    assert sampling == inference_pb2.Sampling(temperature=0.0, max_new_tokens=40, count=1)
