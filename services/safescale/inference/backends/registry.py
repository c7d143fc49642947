"""Which adapter serves which kind of server. A new backend is one file, one line here and its name in the catalog."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safescale.inference.backends.embedded import EmbeddedBackend, EmbeddedOptions
from safescale.inference.backends.pool import Gate
from safescale.inference.backends.port import Backend
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry


@dataclass(frozen=True)
class BackendOptions:
    """What adapters are built with: instances of embedded models, their gate, where files may be kept, metrics."""

    instances: int
    gate: Gate
    cache_dir: Path
    telemetry: Telemetry


def _embedded(row: ModelRow, options: BackendOptions) -> Backend:
    return EmbeddedBackend(row, EmbeddedOptions(options.instances, options.gate, options.cache_dir))


ADAPTERS: Mapping[str, Callable[[ModelRow, BackendOptions], Backend]] = {"embedded": _embedded}
"""Adapter by the catalog's field `backend`."""


def build(row: ModelRow, options: BackendOptions) -> Backend:
    """The backend of a row; nothing is loaded or connected yet."""
    return ADAPTERS[row.backend](row, options)
