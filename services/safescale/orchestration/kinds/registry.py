"""The kinds of runs, each named once. No other module imports a kind."""

from safescale.orchestration.clients import Peers
from safescale.orchestration.kinds.port import Kinds
from safescale.orchestration.kinds.safety import SafetyKind
from safescale.orchestration.store import BenchmarkStore, RunStore


def run_kinds(benchmarks: BenchmarkStore, runs: RunStore, peers: Peers) -> Kinds:
    """Return the kinds by name. A spec is of the first kind that accepts it: safety, the default, comes last."""
    return {"safety": SafetyKind(benchmarks, runs, peers)}
