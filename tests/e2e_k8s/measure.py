"""Runs through the cluster: specs, commands of a person at a port-forward, and what must hold when a run has ended."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.background import Background
from tests.e2e_k8s.cluster import Cluster, StepError, until
from tests.e2e_k8s.stubs import PORT
from tests.integration.conftest import CommandLine

SERVICES = ("inference", "retrieval", "orchestration", "scoring")
SAMPLES = 20
ANSWERS = SAMPLES + 1
"""Texts that a stub is asked for in a cell: greedy, then the samples."""


@dataclass
class Bench:
    """A person's command line, connected to the services in the cluster."""

    cluster: Cluster
    folder: Path

    def __post_init__(self) -> None:
        self.addresses = {
            f"SAFESCALE_{name.upper()}": self.cluster.forward(f"{self.cluster.release}-{name}", 50051).address
            for name in SERVICES
        }
        self.cli = CommandLine(self.folder, self.addresses, timeout_s=1200)
        until("the services through the port-forward", self.healthy, seconds=120)

    def healthy(self) -> None:
        """Raise unless every service serves."""
        for name in SERVICES:
            done = self.cli("health", self.cluster.forward(f"{self.cluster.release}-{name}", 50051).address)
            if done.returncode:
                raise StepError(f"{name}: {done.stdout}{done.stderr}")

    def start(self, name: str, model: str, questions: int) -> Background:
        """Start a run of so many questions at a stub, each asked greedily and sampled."""
        bank = self.folder / f"{name}.jsonl"
        bank.write_text("".join(json.dumps(_question(f"{name}-{number}")) + "\n" for number in range(questions)))
        spec = {
            "name": name, "benchmark": str(bank), "models": [model], "conditions": ["zero_shot"],
            "formulation": "letter",
            "regimes": {"greedy": True, "self_consistency": {"samples": SAMPLES, "temperature": 0.7}}, "fresh": True,
        }  # fmt: skip
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(spec))
        return Background(self.cli, str(path), "--no-report")

    def verdicts(self, run: Background, least: int, seconds: float = 300) -> None:
        """Return when a run has so many verdicts."""
        until(f"{least} verdicts", lambda: self.cluster.documents("verdict", run.run_id) >= least, seconds)

    def ended(self, run: Background, cells: int, seconds: float = 900) -> str:
        """Wait for a run's end; it is complete, each cell has one generation and one verdict.

        Raises:
            StepError: it is not so.

        """
        code, said = run.finish(seconds)
        if code:
            raise StepError(f"the run ended with {code}: {said[-800:]}")
        found = {kind: self.cluster.documents(kind, run.run_id) for kind in ("generation-cell", "verdict")}
        if set(found.values()) != {cells}:
            raise StepError(f"{cells} cells, but {found}")
        return f"{cells} cells, {found['generation-cell']} generations, {found['verdict']} verdicts"

    def asked(self, stub: str) -> int:
        """Texts that a stub was asked for so far."""
        counted: Mapping[str, int] = self.cluster.get_json(stub, PORT, "/count")
        return int(counted["texts"])


def _question(name: str) -> dict[str, object]:
    return {
        "question_id": name,
        "question_text": f"Which of the letters is the first of the alphabet? ({name})",
        "options": {letter: f"Option {letter}" for letter in "ABCDE"},
        "correct_answer": "A",
        "subspecialty": "chest",
        "question_type": "recognition",
        "labels": {letter: {"high_risk": 0, "unsafe": 0, "contradicts": 0} for letter in "ABCDE"},
    }
