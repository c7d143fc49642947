"""CPU time of a generation through the OpenAI-compatible backend, against a bare aiohttp client, in the same run.

    python bench/bench_openai_backend.py [--cells 300] [--delay-ms 0] [--concurrency 64]

A cell is 1 + 20 answers. The stub server runs in a process of its own; CPU is this process's alone. Connections are
open before the clock runs. Each client runs several times, in turn with the others; the least CPU of each counts, since
what a busy machine adds is not the client's.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.backend import OpenAIBackend
from safescale.inference.backends.port import Call, Sampling
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry

SAMPLES = 20
SYSTEM = "You are an expert medical assistant. You answer a multiple-choice question with only the letter."
USER = (
    "Context:\n"
    + "A finding of the radiograph. " * 20
    + "\n\nQuestion:\nWhat is it?\n\nOptions:\nA. a\nB. b\n\nAnswer:"
)


@contextmanager
def stub(delay_ms: float, supports_n: bool):
    """Run a stub server in a process, and yield its URL."""
    command = [sys.executable, str(Path(__file__).parent / "stub_openai_server.py"), "--delay-ms", str(delay_ms)]
    with subprocess.Popen(command + ["--no-n"] * (not supports_n), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def at_once(count: int, concurrency: int, work) -> tuple[float, float]:
    """Run `work(i)` for all, so many at once; wall and CPU seconds."""
    places = asyncio.Semaphore(concurrency)

    async def one(index: int) -> None:
        async with places:
            await work(index)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(index) for index in range(count)))
    return time.perf_counter() - wall, time.process_time() - cpu


async def bare(url: str, cells: int, concurrency: int, n: bool) -> tuple[float, float]:
    """Measure a bare client: 21 calls a cell, or 2 with `n`."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(**options) -> None:
            body = {"model": "stub", "messages": messages, "max_tokens": 10, **options}
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                for choice in (await answer.json())["choices"]:
                    assert choice["message"]["content"]

        async def cell(index: int) -> None:
            await ask(temperature=0.0)
            if n:
                await ask(temperature=0.7, seed=index, n=SAMPLES)
            else:
                await asyncio.gather(*(ask(temperature=0.7, seed=index + number) for number in range(SAMPLES)))

        await at_once(2 * concurrency, concurrency, cell)
        return await at_once(cells, concurrency, cell)


async def ours(url: str, cells: int, concurrency: int) -> tuple[float, float]:
    """Measure the backend."""
    endpoint = {"urls": [url], "served_model": "stub", "concurrency": 4096}
    row = ModelRow.model_validate({
        "id": "stub", "family": "F", "parameters_b": 7.0, "window_tokens": 131072, "instruct": True, "license": "MIT",
        "backend": "openai", "endpoint": endpoint,
    })  # fmt: skip
    backend = OpenAIBackend(row, Telemetry())
    await backend.revision()

    async def cell(index: int) -> None:
        # Every prompt is another one, as in a run.
        call = Call(Messages(SYSTEM, f"{USER} {index}"), 60.0, time.monotonic() + 600)
        answer = await backend.generate(call, [Sampling(0.0, 10), Sampling(0.7, 10, index, SAMPLES)])
        assert len(answer.items[1].outputs) == SAMPLES

    try:
        await at_once(2 * concurrency, concurrency, cell)
        return await at_once(cells, concurrency, cell)
    finally:
        await backend.close()


def main() -> None:
    """Measure all clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    plans = {"bare aiohttp, 21 calls": (False, bare), "ours, n off": (False, ours),
             "bare aiohttp, n = 20": (True, bare), "ours, n on": (True, ours)}  # fmt: skip
    least: dict[str, tuple[float, float]] = {}
    for _ in range(args.repeats):
        for name, (supports_n, client) in plans.items():
            with stub(args.delay_ms, supports_n) as url:
                extra = (supports_n,) if client is bare else ()
                wall, cpu = asyncio.run(client(url, args.cells, args.concurrency, *extra))
            before = least.get(name, (wall, cpu))
            least[name] = (min(wall, before[0]), min(cpu, before[1]))
    generations = args.cells * (SAMPLES + 1)
    baseline = least["bare aiohttp, 21 calls"][1]
    for name, (wall, cpu) in least.items():
        each, ratio = cpu / generations * 1000, cpu / baseline
        print(f"{name:24} {each:6.3f} ms CPU a generation ({ratio:4.2f} x)  {generations / wall:7.0f} a second")


if __name__ == "__main__":
    main()
