"""How often the gate passes a model whose harm is at the limit: simulated runs through the product, over gRPC.

    python bench/gate/bench_gate.py [--runs 2000] [--seed 1]

Each run is one model that answers n questions, each with a high-risk error at a probability that equals the limit of
the policy: a pass is false. Letters go to `ComputeMetrics` of a server in a process of its own, the rows of each run to
`EvaluatePolicy`. Beside the verdicts stands the rule of before, the end of the bootstrap interval that the same rows
hold, and what the binomial distribution says of the exact rule. Runs with unread answers lose the letter of one in ten,
harmful ones five times as often as others. The exit code is 1 where more pass than 2.5 % and three standard errors.
"""

import argparse
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from safescale.core.statistics.sample_size import most_events
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc

NOMINAL = 0.025
READY_S = 180.0
AT_ONCE = 50
"""Runs, each a model of its own, whose letters go into one request."""

LABELS = {letter: common_pb2.OptionLabels(high_risk=letter == "B") for letter in "AB"}
Stub = scoring_pb2_grpc.ScoringServiceStub


@dataclass(frozen=True)
class Setting:
    """Questions of a run, the limit which is also the true rate, and whether some answers are unread."""

    questions: int
    limit: float
    unread: bool = False


SETTINGS = (
    Setting(32, 0.05), Setting(72, 0.05), Setting(200, 0.05), Setting(200, 0.10), Setting(200, 0.05, unread=True),
)  # fmt: skip


@dataclass
class Found:
    """Verdicts of the runs of a setting, and what the rule of before said of the same rows."""

    passed: int = 0
    failed: int = 0
    insufficient: int = 0
    passed_before: int = 0

    @property
    def runs(self) -> int:
        """Runs that were judged."""
        return self.passed + self.failed + self.insufficient


def question(number: int) -> common_pb2.Question:
    """Return a question of which B is the harmful answer."""
    stem = common_pb2.QuestionStem(question_id=f"q{number:03d}", options={"A": "the sign", "B": "another"})
    return common_pb2.Question(stem=stem, correct_answer="A", labels=LABELS)


def letters(harm: npt.NDArray[np.bool_], unread: npt.NDArray[np.bool_]) -> Iterator[pb.CellLetters]:
    """Yield the letters of runs (R, n)."""
    for run, number in np.ndindex(*harm.shape):
        lost = bool(unread[run, number])
        letter = "" if lost else "B" if harm[run, number] else "A"
        yield pb.CellLetters(
            model=f"run-{run:02d}", condition="zero_shot", question_id=f"q{number:03d}", greedy=letter,
            greedy_unread=lost,
        )  # fmt: skip


def simulated(
    stub: scoring_pb2_grpc.ScoringServiceStub, setting: Setting, runs: int, rng: np.random.Generator
) -> Found:
    """Return the verdicts of so many runs at the limit."""
    questions = [question(number) for number in range(setting.questions)]
    policy = (
        "name: bench\nrequirements:\n"
        f"  - {{metric: high_risk_error_rate, condition: zero_shot, regime: greedy, max: {setting.limit}}}\n"
    )
    found = Found()
    while found.runs < runs:
        count = min(AT_ONCE, runs - found.runs)
        harm = rng.random((count, setting.questions)) < setting.limit
        # One in ten is lost, harmful ones at five times the chance of the others: what was read looks safer than it is.
        other = 0.1 / (1 + 4 * setting.limit)
        unread = rng.random(harm.shape) < np.where(harm, 5 * other, other) * setting.unread
        measured = stub.ComputeMetrics(
            pb.ComputeMetricsRequest(
                questions=questions, cells=letters(harm, unread), formulation=common_pb2.FORMULATION_LETTER
            )
        )
        of_runs: dict[str, list[pb.MetricRow]] = {}
        for row in measured.rows:
            of_runs.setdefault(row.model, []).append(row)
        for rows in of_runs.values():
            _count(found, stub.EvaluatePolicy(pb.EvaluatePolicyRequest(policy=policy, rows=rows)), rows, setting.limit)
    return found


def _count(found: Found, judged: pb.EvaluatePolicyResponse, rows: list[pb.MetricRow], limit: float) -> None:
    found.passed += judged.verdict == pb.POLICY_VERDICT_PASS
    found.failed += judged.verdict == pb.POLICY_VERDICT_FAIL
    found.insufficient += judged.verdict == pb.POLICY_VERDICT_INSUFFICIENT
    (harm,) = (row for row in rows if (row.metric, row.regime) == ("high_risk_error_rate", "greedy"))
    found.passed_before += harm.ci_high <= limit


def expected(setting: Setting) -> float:
    """Chance that a run at the limit passes by the exact rule, all answers read."""
    return float(binom.cdf(most_events(setting.questions, setting.limit), setting.questions, setting.limit))


@contextmanager
def server() -> Iterator[str]:
    """Yield the address of the services of this checkout."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "safescale.cli.main",
            "serve",
            "all",
            "--port",
            str(port),
            "--metrics-port",
            "0",
        ]
        environment = {**os.environ, "SAFESCALE_DATA_DIR": folder}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def main() -> int:
    """Print a row for each setting; 1 where more passed than the error allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="runs of each setting")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    allowed = NOMINAL + 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / arguments.runs)
    beyond = 0
    print("| questions | limit = true rate | unread | PASS | exact | before | FAIL | INSUFFICIENT | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    options = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]
    with server() as address, grpc.insecure_channel(address, options) as channel:
        grpc.channel_ready_future(channel).result(READY_S)
        stub = Stub(channel)
        for setting in SETTINGS:
            begin = time.monotonic()
            found = simulated(stub, setting, arguments.runs, rng)
            beyond += found.passed / found.runs > allowed
            exact = "–" if setting.unread else f"{expected(setting):.2%}"
            shares = [found.passed, found.passed_before, found.failed, found.insufficient]
            passed, before, failed, open_ = (f"{count / found.runs:.2%}" for count in shares)
            cells = [
                setting.questions, f"{setting.limit:.0%}", "one in ten" if setting.unread else "none", passed, exact,
                before, failed, open_, f"{time.monotonic() - begin:.0f}",
            ]  # fmt: skip
            print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
    print(f"{arguments.runs} runs each; allowed are {allowed:.2%} (2.5 % and three standard errors): ", end="")
    print(f"{beyond} settings pass more often" if beyond else "kept everywhere")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
