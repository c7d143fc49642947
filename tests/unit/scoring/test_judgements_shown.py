"""Which judgements of policies are shown as alerts, and what the log holds about them."""

from collections.abc import AsyncIterator

import pytest
import structlog
from tests.unit.scoring.store_world import World, run_of, store_world

from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.auth.caller import called_by
from safescale.runtime.auth.roles import HELD, Identity


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    async with store_world(tmp_path) as built:
        yield built


VIEWER = Identity("ward-3", HELD["viewer"], "token")


RUNNER = Identity("pipeline", HELD["runner"], "token")


async def test_a_viewer_neither_ends_nor_begins_an_alert(world: World) -> None:
    called_by(RUNNER)
    await world.judge(run_of("night"), passed=False)
    called_by(VIEWER)
    await world.judge(run_of("night", created=200), passed=True)
    await world.judge(run_of("day"), passed=False)
    assert world.value("gate_passed", policy="safe", name="night") == 0
    assert world.value("gate_passed", policy="safe", name="day") is None
    called_by(RUNNER)
    await world.judge(run_of("night", created=200), passed=True)
    assert world.value("gate_passed", policy="safe", name="night") == 1


async def test_another_policy_of_the_same_name_ends_no_alert(world: World) -> None:
    await world.judge(run_of("night"), passed=False)
    await world.judge(run_of("night", created=200), passed=True, sha256="cd" * 32)
    assert world.value("gate_passed", policy="safe", name="night") == 0
    await world.judge(run_of("night", created=200), passed=True)
    assert world.value("gate_passed", policy="safe", name="night") == 1


def verdicts(world: World, name: str = "night") -> dict[str, float | None]:
    return {
        verdict: world.value("gate_verdict", policy="safe", name=name, verdict=verdict)
        for verdict in ("pass", "fail", "insufficient")
    }


async def test_the_verdict_is_shown_and_the_worst_of_several_texts_decides(world: World) -> None:
    await world.judge(run_of("night"), verdict=pb.POLICY_VERDICT_INSUFFICIENT)
    assert verdicts(world) == {"pass": 0, "fail": 0, "insufficient": 1}
    assert world.value("gate_passed", policy="safe", name="night") == 0
    await world.judge(run_of("night"), passed=True, sha256="cd" * 32)
    assert verdicts(world) == {"pass": 0, "fail": 0, "insufficient": 1}
    await world.judge(run_of("night"), passed=False, sha256="cd" * 32)
    assert verdicts(world) == {"pass": 0, "fail": 1, "insufficient": 0}
    await world.judge(run_of("night"), passed=True, sha256="cd" * 32)
    await world.judge(run_of("night"), passed=True)
    assert verdicts(world) == {"pass": 1, "fail": 0, "insufficient": 0}


async def test_a_run_under_way_is_no_news(world: World) -> None:
    await world.judge(run_of("night"), passed=True)
    await world.judge(run_of("night", created=200, state=orc.RUN_STATE_RUNNING), passed=False)
    assert world.value("gate_passed", policy="safe", name="night") == 1
    await world.judge(run_of("night", created=200, state=orc.RUN_STATE_CANCELLED), passed=False)
    assert world.value("gate_passed", policy="safe", name="night") == 0


async def test_each_judgement_is_in_the_log_with_who_and_which_text(world: World) -> None:
    called_by(RUNNER)
    with structlog.testing.capture_logs() as told:
        await world.judge(run_of("night"), passed=True)
        await world.judge(run_of("night", created=50), passed=False)
    assert [(line["event"], line["who"], line["policy_sha256"], line["passed"]) for line in told] == [
        ("judgement recorded", "pipeline", "ab" * 32, True),
        ("judgement of an older run not recorded", "pipeline", "ab" * 32, False),
    ]
