"""Services of this version take the messages of version 0.1.0: processes of both serve a run while a grid is upgraded.

The bus gives out, in place of each message that this version publishes, the bytes that version 0.1.0 published there.
"""

import asyncio
import base64
import gzip
import json
import sqlite3
from pathlib import Path

from tests.data.released.make import REFUSED, cell_of
from tests.integration.released.conftest import RECORDS, done, folder_of, restore_unfinished, verdicts

from safescale.app.host import Host, HostOptions
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.orchestration.v1.orchestration_pb2_grpc import OrchestrationServiceStub
from safescale.runtime.bus import topics
from safescale.runtime.bus.memory import MemoryBus
from safescale.runtime.bus.port import Message
from safescale.runtime.settings import Settings

TIMEOUT_S = 60
SEEN = {
    topics.CONTEXT_REQUESTED: 6, topics.CONTEXT_BUILT: 6, topics.generation_requested("m"): 18,
    topics.GENERATION_COMPLETED: 7, topics.VERDICT_RECORDED: 7,
}  # fmt: skip
"""Messages of each topic in the released run, which was killed before all were there."""


def released_messages() -> dict[tuple[str, str], Message]:
    """What version 0.1.0 published, by topic and key."""
    found = {}
    for line in gzip.decompress((RECORDS / "messages.jsonl.gz").read_bytes()).splitlines():
        one = json.loads(line)
        value = base64.b64decode(one["value"])
        found[one["topic"], one["key"]] = Message(one["topic"], one["key"], value, one["headers"])
    return found


def forget_verdicts(data: Path) -> None:
    """Leave of a data folder what a process has that was killed before it read any answer."""
    with sqlite3.connect(data / "records.db") as db:
        assert db.execute("DELETE FROM documents WHERE kind IN ('verdict', 'review')").rowcount


async def ended_run(host: Host, run_id: str) -> pb.Run:
    """A run, as soon as it has ended."""
    stub = OrchestrationServiceStub(host.channel("orchestration"))
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            run = (await stub.GetRun(pb.GetRunRequest(run_id=run_id))).run
            if run.state != pb.RUN_STATE_RUNNING:
                return run
            await asyncio.sleep(0.05)


async def test_a_run_is_measured_with_the_messages_of_the_released_version(
    tmp_path, model, forker, expected, monkeypatch
) -> None:
    cli = folder_of(tmp_path, model, forker)
    restore_unfinished(cli)
    forget_verdicts(tmp_path / "data")
    released, given = released_messages(), set()
    publish = MemoryBus.publish

    async def publish_released(bus: MemoryBus, message: Message) -> None:
        own = (message.topic, message.key)
        if own in released:
            given.add(own)
        await publish(bus, released.get(own, message))

    monkeypatch.setattr(MemoryBus, "publish", publish_released)
    settings = Settings(
        data_dir=tmp_path / "data", models_file=tmp_path / "models.yaml", embeddings=model.embeddings_url,
        embeddings_tokenizer_file=tmp_path / "tokenizer.json",
    )  # fmt: skip
    run_id = expected["unfinished"]["run_id"]
    async with Host(settings, HostOptions(resume_on_start=True)) as host:
        assert (await ended_run(host, run_id)).state == pb.RUN_STATE_COMPLETED
    assert {topic: sum(topic == one for one, _ in given) for topic in SEEN} == SEEN

    monkeypatch.undo()
    found = verdicts(cli, run_id)
    assert len(found) == 18
    said = {(cell[0], cell[1]): cell for cell in expected["unfinished"]["cells"]}
    assert {key: cell_of(found[key]) for key in said} == said
    assert {question for (_, question), one in found.items() if "failure" in one} == {REFUSED}
    assert all(cell_of(one)[3] for one in found.values() if "failure" not in one)
    done(cli, "runs", "retry", run_id)
