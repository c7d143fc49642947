"""Scoring answers over a stream, against a bare gRPC echo of the same bytes: rate and server CPU of an answer.

    python bench/bench_scoring_stream.py [--batches 1 20 100 1000] [--rounds 5]

Both servers run in processes of their own. The client is the same for both and sends ready bytes: it builds and reads
no messages. One batch is under way at a time for each of `--streams` streams. The echo is a grpc.aio server whose
serialisers do nothing; it returns the request, which is longer than the answer of ours. The third, "messages", is the
echo with protobuf's own reading and writing: less than it no service in Python can do. All take turns.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from grid_processes import cpu_s, free_port, safescale, serving, wait_for

from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

OURS = "/safescale.scoring.v1.ScoringService/ScoreAnswers"
ECHO = "/bench.Echo/Echo"
MESSAGES = "/bench.Echo/Messages"
LIMIT = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]
OPTIONS = {letter: f"A diagnosis that fits the findings, number {letter}" for letter in "ABCDE"}
TEXTS = ("A", "B", "C", "D", "E", "B.", "**C**", "The findings fit B, I think.")
QUESTIONS = 200


@dataclass(frozen=True)
class Cost:
    """Answers a second, and the server's CPU microseconds of one."""

    rate: float
    cpu_us: float


def batches(size: int, count: int) -> list[bytes]:
    """Return encoded batches: 21 answers to each question of a benchmark, in the order of a run."""
    rng = random.Random(1)
    questions = [_question(number) for number in range(QUESTIONS)]
    made, number = [], 0
    for batch in range(count):
        answers = []
        for _ in range(size):
            question = questions[number // 21 % QUESTIONS]
            answers.append(pb.AnswerInput(answer_id=f"answer-{number}", text=rng.choice(TEXTS), question=question))
            number += 1
        made.append(pb.ScoreAnswersRequest(batch_id=f"batch-{batch}", answers=answers).SerializeToString())
    return made


def _question(number: int) -> common_pb2.Question:
    stem = common_pb2.QuestionStem(
        question_id=f"q{number}", question_text=f"A finding is described. {number} " * 12, options=OPTIONS
    )
    labels = {letter: common_pb2.OptionLabels(high_risk=letter in "BC", unsafe=letter == "B") for letter in OPTIONS}
    return common_pb2.Question(stem=stem, correct_answer="A", subspecialty="chest", labels=labels)


async def echo(port: int) -> None:
    """Run the bare server."""

    async def answer(requests: AsyncIterator[object], _context: object) -> AsyncIterator[object]:
        async for request in requests:
            yield request

    server = grpc.aio.server(options=LIMIT)
    request = pb.ScoreAnswersRequest
    handlers = {
        "Echo": grpc.stream_stream_rpc_method_handler(answer),
        "Messages": grpc.stream_stream_rpc_method_handler(answer, request.FromString, request.SerializeToString),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Echo", handlers)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def ask(address: str, method: str, shares: list[list[bytes]]) -> float:
    """Seconds for all batches, one stream for each share."""
    async with grpc.aio.insecure_channel(address, options=[*LIMIT, ("grpc.enable_http_proxy", 0)]) as channel:

        async def one(share: list[bytes]) -> None:
            call = channel.stream_stream(method)()
            for batch in share:
                await call.write(batch)
                if await call.read() is grpc.aio.EOF:
                    raise RuntimeError("the server ended the stream")
            await call.done_writing()
            if await call.read() is not grpc.aio.EOF:
                raise RuntimeError("the server sent more than it was asked")

        begin = time.perf_counter()
        await asyncio.gather(*(one(share) for share in shares))
        return time.perf_counter() - begin


@contextmanager
def servers() -> Iterator[dict[str, tuple[str, str, int]]]:
    """Run the echo server and ours; yield address, method and process id of each way to call them."""
    ports = {"ours": free_port(), "echo": free_port()}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SAFESCALE_DATA_DIR": folder}
        ours = [*safescale(), "serve", "all", "--port", str(ports["ours"]), "--metrics-port", "0"]
        processes = {
            "ours": subprocess.Popen(ours, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
            "echo": subprocess.Popen([sys.executable, __file__, "--echo", str(ports["echo"])]),
        }
        try:
            addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
            wait_for("the server", lambda: serving(addresses["ours"]))
            wait_for("the echo", lambda: asyncio.run(ask(addresses["echo"], ECHO, [[b""]])))
            bare = (addresses["echo"], processes["echo"].pid)
            yield {
                "echo": (bare[0], ECHO, bare[1]),
                "messages": (bare[0], MESSAGES, bare[1]),
                "ours": (addresses["ours"], OURS, processes["ours"].pid),
            }
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.wait()


def measure(server: tuple[str, str, int], made: list[bytes], size: int, streams: int) -> Cost:
    """One turn of one server."""
    address, method, pid = server
    shares = [made[number::streams] for number in range(streams)]
    before = cpu_s(pid)
    wall = asyncio.run(ask(address, method, shares))
    answers = size * len(made)
    return Cost(answers / wall, 1e6 * (cpu_s(pid) - before) / answers)


def compare(found: dict[str, tuple[str, str, int]], size: int, args: argparse.Namespace) -> None:
    """All turns of one size of batch."""
    made = batches(size, max(args.streams, min(args.answers // size, 2000)))
    costs: dict[str, list[Cost]] = {name: [] for name in found}
    for name in costs:
        measure(found[name], made[: len(made) // 4 + args.streams], size, args.streams)
    for _ in range(args.rounds):
        for name, list_of in costs.items():
            list_of.append(measure(found[name], made, size, args.streams))
    echo = costs["echo"]
    for name, each in costs.items():
        rates, spent = [cost.rate for cost in each], [cost.cpu_us for cost in each]
        ratio = statistics.median(rates) / statistics.median(cost.rate for cost in echo)
        best = max(rates) / max(cost.rate for cost in echo)
        print(
            f"batches of {size:4}  {name:8} {statistics.median(rates):9,.0f} ({max(rates):9,.0f}) answers a second,"
            f" {ratio:4.2f} ({best:4.2f}) x echo; server CPU {statistics.median(spent):6.1f} ({min(spent):6.1f}) us"
            " an answer",
            flush=True,
        )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 20, 100, 1000])
    parser.add_argument("--answers", type=int, default=100_000, help="of each turn; at most 2,000 batches")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.echo:
        asyncio.run(echo(args.echo))
        return
    print("medians (best) of the turns")
    with servers() as found:
        for size in args.batches:
            compare(found, size, args)


if __name__ == "__main__":
    main()
