"""A run through the whole grid against a bare client: CPU of a generation, generations a second, repeats after SIGKILL.

    python bench/bench_driver.py [--cells 2000] [--rounds 3] [--delays 0 50]

A cell is 1 + 20 answers of one prompt. Ours: orchestration plans, Kafka carries, inference asks a stub server, scoring
reads the answers and writes verdicts to Elasticsearch; the CPU is that of all four services. The bare client makes the
21 calls of each cell with aiohttp, in a process of its own, with as many calls in flight; it keeps nothing. Both take
turns in one run. Kafka, Elasticsearch and the stub are measured apart.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from grid_processes import Grid, Stores, channel, cpu_s, stores, stubs

from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc

SAMPLES = 20
ANSWERS = SAMPLES + 1
SYSTEM = "You are an expert medical assistant. You answer a multiple-choice question with only the letter."
FINDINGS = "A finding of the radiograph is described in a sentence like this one. " * 6
OPTIONS = {letter: f"A diagnosis that fits the findings, number {letter}" for letter in "ABCDE"}
PATIENCE_S = 900.0


@dataclass(frozen=True)
class Cost:
    """Wall seconds of a number of cells, processor seconds of each part."""

    cells: int
    wall: float
    cpu: dict[str, float]

    @property
    def generation_ms(self) -> float:
        """CPU milliseconds of a generation, of all parts together."""
        return 1000 * sum(self.cpu.values()) / (self.cells * ANSWERS)

    @property
    def rate(self) -> float:
        """Generations a second."""
        return self.cells * ANSWERS / self.wall


class Session:
    """The grid, its stubs and its stores, with the calls that a run needs."""

    def __init__(self, grid: Grid, found: Stores, servers: dict[str, tuple[str, int]]) -> None:
        self.grid = grid
        self.stores = found
        self.servers = servers
        self._turn = 0

    def create(self, model: str, cells: int) -> str:
        """Start a run over questions that no run has had before; its id."""
        self._turn += 1
        questions = [_question(f"{model} {self._turn} {number}", number) for number in range(cells)]
        with channel(self.grid.address("orchestration")) as to:
            stub = orchestration_pb2_grpc.OrchestrationServiceStub(to)
            imported = stub.ImportBenchmark(
                pb.ImportBenchmarkRequest(name=f"bench {self._turn}", questions=questions), timeout=60
            )
            spec = pb.RunSpec(
                name="bench", benchmark_id=imported.benchmark.benchmark_id, models=[model], conditions=["zero_shot"],
                formulation="letter", greedy=True, samples=SAMPLES, temperature=0.7,
            )  # fmt: skip
            return stub.CreateRun(pb.CreateRunRequest(spec=spec), timeout=60).run.run_id

    def follow(self, run_id: str, at_count: int = 0) -> float:
        """Seconds until the run has ended, or has so many verdicts."""
        begin = time.monotonic()
        with channel(self.grid.address("orchestration")) as to:
            stub = orchestration_pb2_grpc.OrchestrationServiceStub(to)
            for seen in stub.WatchRun(pb.WatchRunRequest(run_id=run_id), timeout=PATIENCE_S):
                done = sum(row.completed for row in seen.progress.cells)
                if seen.state == pb.RUN_STATE_COMPLETED or (at_count and done >= at_count):
                    return time.monotonic() - begin
                if seen.state != pb.RUN_STATE_RUNNING:
                    raise RuntimeError(f"the run is {pb.RunState.Name(seen.state)} with {done} verdicts")
        raise RuntimeError("the run was not followed to its end")

    def counted(self, model: str) -> dict[str, int]:
        """Return calls and texts that the stub was asked for so far."""
        with urllib.request.urlopen(f"{self.servers[model][0]}/count", timeout=5) as answer:
            return dict(json.load(answer))

    def measure(self, model: str, cells: int) -> tuple[Cost, dict[str, float]]:
        """One run to its end: its cost, and the processor seconds of what is not ours."""
        others = {**self.stores.pids, "stub": self.servers[model][1]}
        before, around = self.grid.cpu(), {name: cpu_s(pid) for name, pid in others.items()}
        begin = time.monotonic()
        self.follow(self.create(model, cells))
        wall = time.monotonic() - begin
        after = self.grid.cpu()
        spent = {name: after[name] - before[name] for name in after}
        return Cost(cells, wall, spent), {name: cpu_s(pid) - around[name] for name, pid in others.items()}


def _question(text: str, number: int) -> common_pb2.Question:
    stem = common_pb2.QuestionStem(
        question_id=f"q{number:06d}", question_text=f"{FINDINGS}What is it? ({text})", options=OPTIONS
    )
    return common_pb2.Question(stem=stem, correct_answer="A", subspecialty="chest", question_type="diagnosis")


@contextmanager
def session(delays_ms: list[float]) -> Iterator[Session]:
    """Run stores, stubs and services for the length of the context."""
    kinds = {}
    for delay in delays_ms:
        kinds[f"n-{delay:g}"] = ["--delay-ms", str(delay)]
        kinds[f"single-{delay:g}"] = ["--delay-ms", str(delay), "--no-n"]
    with tempfile.TemporaryDirectory() as folder, stores() as found, stubs(kinds) as servers:
        catalog = Path(folder) / "models.yaml"
        catalog.write_text(json.dumps({"models": [_row(name, url) for name, (url, _) in servers.items()]}))
        with Grid(found, catalog) as grid:
            yield Session(grid, found, servers)


def _row(name: str, url: str) -> dict[str, object]:
    endpoint = {"urls": [url], "served_model": "stub", "concurrency": CONCURRENCY}
    return {
        "id": name, "family": "Stub", "parameters_b": 7.0, "window_tokens": 131072, "instruct": True,
        "license": "MIT", "backend": "openai", "endpoint": endpoint,
    }  # fmt: skip


CONCURRENCY = 64
"""Calls in flight, ours and the bare client's."""


async def bare(url: str, cells: int) -> tuple[float, float]:
    """Measure the bare client: wall and processor seconds of 21 calls for each cell."""
    places = asyncio.Semaphore(CONCURRENCY)
    lines = "\n".join(f"{letter}. {text}" for letter, text in OPTIONS.items())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def ask(messages: list[dict[str, str]], **options: float) -> None:
            body = {"model": "stub", "messages": messages, "max_tokens": 10, **options}
            async with places, client.post(f"{url}/v1/chat/completions", json=body) as answer:
                for choice in (await answer.json())["choices"]:
                    assert choice["message"]["content"]

        async def cell(index: int) -> None:
            user = f"Question:\n{FINDINGS}What is it? ({index})\n\nOptions:\n{lines}\n\nAnswer:"
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]
            await asyncio.gather(
                ask(messages, temperature=0.0),
                *(ask(messages, temperature=0.7, seed=index + number) for number in range(SAMPLES)),
            )

        async def cells_of(count: int) -> None:
            # A few cells at a time: what waits for a place costs the client nothing but memory.
            numbers = iter(range(count))

            async def worker() -> None:
                for index in numbers:
                    await cell(index)

            await asyncio.gather(*(worker() for _ in range(8)))

        await cells_of(20)
        wall, cpu = time.perf_counter(), time.process_time()
        await cells_of(cells)
        return time.perf_counter() - wall, time.process_time() - cpu


def bare_in_process(url: str, cells: int) -> Cost:
    """Measure the bare client in a process of its own."""
    command = [sys.executable, __file__, "--bare", url, "--cells", str(cells)]
    wall, cpu = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return Cost(cells, wall, {"client": cpu})


def compare(one: Session, delay: float, cells: int, rounds: int) -> None:
    """Measure in turns the bare client, ours without `n` and ours with it."""
    kinds = {"with n": f"n-{delay:g}", "21 calls": f"single-{delay:g}"}
    for model in kinds.values():
        # The stores are programs that get faster while they run.
        one.measure(model, 500)
    base: list[Cost] = []
    ours: dict[str, list[Cost]] = {name: [] for name in kinds}
    others: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        base.append(bare_in_process(one.servers[f"single-{delay:g}"][0], max(cells // 5, 100)))
        for name, model in kinds.items():
            cost, others[name] = one.measure(model, cells)
            ours[name].append(cost)
            _tell(f"  {name}", cost, base[-1], others[name])
    print(f"stub after {delay:g} ms, medians (best) of {rounds} rounds, cells of {ANSWERS} answers:")
    _summary("bare aiohttp, 21 calls", base, base)
    for name, costs in ours.items():
        _summary(f"the grid, {name}", costs, base)


def _summary(name: str, costs: list[Cost], base: list[Cost]) -> None:
    cpu, rate = [cost.generation_ms for cost in costs], [cost.rate for cost in costs]
    base_cpu, base_rate = [cost.generation_ms for cost in base], [cost.rate for cost in base]
    print(
        f"{name:24} CPU ms a generation {statistics.median(cpu):6.3f} ({min(cpu):6.3f})"
        f" = {statistics.median(cpu) / statistics.median(base_cpu):5.2f} ({min(cpu) / min(base_cpu):5.2f}) x bare,"
        f"  generations a second {statistics.median(rate):6,.0f} ({max(rate):6,.0f})"
        f" = {statistics.median(rate) / statistics.median(base_rate):5.2f} ({max(rate) / max(base_rate):5.2f}) x bare"
    )


def _tell(name: str, cost: Cost, base: Cost, others: dict[str, float]) -> None:
    parts = " ".join(f"{part} {1000 * spent / cost.cells:.2f}" for part, spent in cost.cpu.items())
    apart = " ".join(f"{part} {1000 * spent / cost.cells:.2f}" for part, spent in others.items())
    print(
        f"{name}: {cost.generation_ms:.3f} ms a generation (bare {base.generation_ms:.3f}), {cost.rate:,.0f} a second"
        f" (bare {base.rate:,.0f}); CPU ms a cell: {parts}; not ours: {apart}",
        flush=True,
    )


def killed(one: Session, model: str, cells: int) -> None:
    """SIGKILL of inference in the middle of a run: what the stub was asked for twice."""
    before = one.counted(model)["texts"]
    run_id = one.create(model, cells)
    one.follow(run_id, at_count=cells // 3)
    one.grid.kill("inference")
    one.grid.launch("inference")
    one.follow(run_id)
    twice = one.counted(model)["texts"] - before - cells * ANSWERS
    print(
        f"SIGKILL of inference at a third of {cells:,} cells ({model}): {twice} generations were asked twice or were"
        f" probes, {twice / ANSWERS:.1f} cells; of at most {CONCURRENCY * 3 // 2} in flight",
        flush=True,
    )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delays", type=float, nargs="*", default=[0.0, 50.0], help="of the stub, in ms")
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        print(json.dumps(asyncio.run(bare(args.bare, args.cells))))
        return
    with session(args.delays) as one:
        for delay in args.delays:
            compare(one, delay, args.cells, args.rounds)
        killed(one, f"n-{args.delays[-1]:g}", args.cells)


if __name__ == "__main__":
    main()
