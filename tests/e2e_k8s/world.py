"""What the steps share: the cluster, the release in it, and a person's command line."""

import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e_k8s.cluster import CHART, Cluster
from tests.e2e_k8s.measure import Bench

VALUES = Path(__file__).parent / "values.yaml"


@dataclass
class World:
    """A release of the grid and ways to it."""

    cluster: Cluster
    folder: Path
    images: list[str]

    def __post_init__(self) -> None:
        self._bench: Bench | None = None

    @property
    def bench(self) -> Bench:
        """A person's command line; connected when the release is there."""
        if self._bench is None:
            self._bench = Bench(self.cluster, self.folder)
        return self._bench

    def upgrade(self, *settings: str) -> None:
        """Install or upgrade the release, and wait until all of it is ready."""
        given = [part for setting in (*self.images, *settings) for part in ("--set", setting)]
        self.cluster.helm(
            "upgrade", "--install", self.cluster.release, str(CHART), "--values", str(VALUES), *given,
            "--wait", "--timeout", "8m",
        )  # fmt: skip


def helm_test(world: World) -> str:
    """The chart's own test: a miniature cell through every service."""
    begin = time.monotonic()
    world.cluster.helm("test", world.cluster.release, "--timeout", "5m", "--logs")
    return f"green after {time.monotonic() - begin:.0f} s"
