"""Client of the scoring API for Python services: `ScoringClient` blocks, `AsyncScoringClient` is for asyncio.

Both have the same methods and the same behaviour: a deadline for each call, calls that did not reach the server are
sent again (scoring stores nothing, so asking twice changes nothing), and errors are those of the server's error tree.
"""

from safescale.client.blocking import ScoringClient
from safescale.client.client import AsyncScoringClient
from safescale.client.options import ClientOptions
from safescale.client.types import (
    Answer,
    Comparison,
    Completeness,
    Evidence,
    Flip,
    Gate,
    Letters,
    Metric,
    PairedRow,
    PlannedRequirement,
    Requirement,
    Scored,
    Series,
)
from safescale.core.errors import SafescaleError
from safescale.core.safety.benchmark.benchmark import OptionLabels, Question

__all__ = [
    "Answer",
    "AsyncScoringClient",
    "ClientOptions",
    "Comparison",
    "Completeness",
    "Evidence",
    "Flip",
    "Gate",
    "Letters",
    "Metric",
    "OptionLabels",
    "PairedRow",
    "PlannedRequirement",
    "Question",
    "Requirement",
    "SafescaleError",
    "Scored",
    "ScoringClient",
    "Series",
]
