"""Documents in Elasticsearch: single puts and gets of many callers at once, and reading a run's letters.

    SAFESCALE_ELASTICSEARCH=http://localhost:9200 python bench/bench_documents.py [--callers 64] [--verdicts 74800]

Puts and gets are compared, in turns in one run, with the official client called once for each document. The letters of
a run of the paper's size are read from their columns, and for comparison out of the whole documents. Processor time is
that of this process; Elasticsearch's own comes on top. Indices get a random prefix and are deleted afterwards.
"""

import argparse
import asyncio
import base64
import os
import random
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elastic_transport import OrjsonSerializer
from elasticsearch import AsyncElasticsearch

from safescale.admin.indices import Indices
from safescale.runtime.documents.elastic import ElasticDocuments
from safescale.runtime.documents.elastic_kinds import KINDS, Naming
from safescale.runtime.documents.port import NewDocument
from safescale.runtime.elastic import ElasticConnection
from safescale.runtime.settings import load_settings
from safescale.runtime.telemetry import Telemetry

LETTERS = ("model", "condition", "question_id", "attempt", "failure", "formulation", "greedy", "samples", "latency_s")
VERDICT_BYTES = 4500
"""Bytes of a verdict's message, of 21 answers; base64 makes 6 kB of them."""

RUN = "run-1"
ROUNDS = 3


@dataclass(frozen=True)
class Cost:
    """Wall and processor seconds of a number of operations."""

    count: int
    wall: float
    cpu: float

    def __str__(self) -> str:
        """Operations per second and CPU per operation."""
        return f"{self.count / self.wall:8,.0f} /s  {1000 * self.cpu / self.count:7.3f} ms CPU each"


def verdict_bodies(count: int) -> list[dict[str, Any]]:
    """Bodies of verdicts as scoring stores them."""
    rng = random.Random(1)
    words = [f"{rng.getrandbits(24):x}" for _ in range(4000)]
    return [
        {
            "model": f"model-{i % 34}", "condition": f"condition_{i % 11}", "question_id": f"q{i % 200:04d}",
            "attempt": 0, "formulation": "letter", "greedy": "A", "samples": "ABCDA" * 4,
            "latency_s": rng.random() * 3, "failure": "",
            "verdict": base64.b64encode(" ".join(rng.choices(words, k=1000)).encode()[:VERDICT_BYTES]).decode(),
        }
        for i in range(count)
    ]  # fmt: skip


async def timed(callers: int, count: int, work: Callable[[int], Awaitable[object]]) -> Cost:
    """Do `count` pieces of work by a number of callers, each of whom does one after the other."""
    numbers = iter(range(count))

    async def caller() -> None:
        for i in numbers:
            await work(i)

    begin, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return Cost(count, time.perf_counter() - begin, time.process_time() - cpu)


class Bench:
    """Measures one store against the client that it is built on."""

    def __init__(self, store: ElasticDocuments, client: AsyncElasticsearch, prefix: str, callers: int) -> None:
        self._store = store
        self._client = client
        self._callers = callers
        self._alias = Naming(prefix).alias(next(kind for kind in KINDS if kind.name == "generation_cell"))
        self._bodies = verdict_bodies(500)

    async def singles(self, count: int) -> None:
        """Put and get documents, in turns."""
        bodies = self._bodies

        async def put(key: str, i: int) -> None:
            assert await self._store.put_if_absent(NewDocument("generation_cell", key, bodies[i % 500], RUN))

        async def put_alone(key: str, i: int) -> None:
            source = {"key": key, "group": RUN, "by": "bench", "body": bodies[i % 500]}
            await self._client.create(index=self._alias, id=key, document=source)

        async def get(key: str) -> None:
            assert await self._store.get("generation_cell", key) is not None

        async def get_alone(key: str) -> None:
            await self._client.get(index=self._alias, id=key)

        for turn in range(ROUNDS):
            ours = await timed(self._callers, count, lambda i, t=turn: put(f"{t}/ours/{i}", i))
            alone = await timed(self._callers, count, lambda i, t=turn: put_alone(f"{t}/alone/{i}", i))
            show(f"put, {self._callers} callers", ours, alone)
            ours = await timed(self._callers, count, lambda i, t=turn: get(f"{t}/ours/{i}"))
            alone = await timed(self._callers, count, lambda i, t=turn: get_alone(f"{t}/alone/{i}"))
            show(f"get, {self._callers} callers", ours, alone)
        ours = await timed(1, count // 8, lambda i: get(f"0/ours/{i}"))
        alone = await timed(1, count // 8, lambda i: get_alone(f"0/alone/{i}"))
        show("get, 1 caller", ours, alone)

    async def letters(self, count: int) -> None:
        """Write a run's verdicts, then read their letters and the whole of them."""
        keys = [f"{RUN}/model-{i % 34}/condition_{i % 11}/{i:06d}/0" for i in range(count)]
        random.Random(2).shuffle(keys)
        begin, cpu = time.perf_counter(), time.process_time()
        for start in range(0, count, 500):
            part = keys[start : start + 500]
            documents = [NewDocument("verdict", key, self._bodies[i % 500], RUN) for i, key in enumerate(part)]
            assert await self._store.put_many_if_absent(documents) == len(part)
        print(f"put many          {Cost(count, time.perf_counter() - begin, time.process_time() - cpu)}")
        for name, fields in (("letters", LETTERS), ("letters", LETTERS), ("whole verdicts", None)):
            begin, cpu = time.perf_counter(), time.process_time()
            found = [document.key async for document in self._store.scan("verdict", RUN, fields=fields)]
            wall, spent = time.perf_counter() - begin, time.process_time() - cpu
            assert found == sorted(keys)
            print(f"{name} of {count:,} verdicts: {wall:.2f} s, {spent:.2f} s CPU")


def show(name: str, ours: Cost, alone: Cost) -> None:
    """Print a line: together, one by one, and how many times as much one by one costs."""
    rate = (ours.count / ours.wall) / (alone.count / alone.wall)
    cpu = (alone.cpu / alone.count) / (ours.cpu / ours.count)
    print(f"{name:16}  {ours}   one by one {alone}   {rate:4.1f} times the rate, 1/{cpu:.1f} of the CPU")


async def measure(options: Mapping[str, Any]) -> None:
    """Make indices, measure, delete them."""
    settings = load_settings()
    prefix = f"bench-{secrets.token_hex(4)}"
    admin = ElasticConnection(settings, Telemetry())
    client = AsyncElasticsearch(settings.elasticsearch.split(","), serializer=OrjsonSerializer(), request_timeout=60)
    store = ElasticDocuments(ElasticConnection(settings, Telemetry()), prefix)
    indices = Indices(admin, prefix)
    try:
        for step in await indices.plan():
            await indices.apply(step)
        bench = Bench(store, client, prefix, options["callers"])
        if options["singles"]:
            await bench.singles(options["singles"])
        if options["verdicts"]:
            await bench.letters(options["verdicts"])
    finally:
        await remove(client, prefix)
        for each in (store, client, admin):
            await each.close()


async def remove(client: AsyncElasticsearch, prefix: str) -> None:
    """Delete what was made."""
    names: Sequence[str] = list((await client.indices.get(index=f"{prefix}-*")).body)
    for name in names:
        await client.indices.delete(index=name)
    await client.indices.delete_index_template(name=f"{prefix}-*")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--singles", type=int, default=6400, help="puts and gets of each turn; 0 for none")
    parser.add_argument("--verdicts", type=int, default=74800, help="verdicts of the run; 0 for none")
    options = vars(parser.parse_args())
    if not os.environ.get("SAFESCALE_ELASTICSEARCH"):
        sys.exit("SAFESCALE_ELASTICSEARCH is not set; expected the URL of an Elasticsearch to measure with")
    asyncio.run(measure(options))


if __name__ == "__main__":
    main()
