"""Which adapter serves which kind of server.

A new backend is a folder beside this module with a class that implements `port.Backend`, an entry in `ADAPTERS`, and
its name in the catalog's `HTTP_BACKENDS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safescale.core.errors import FailedPreconditionError
from safescale.inference.backends.llama.backend import EmbeddedBackend, EmbeddedOptions
from safescale.inference.backends.llama.pool import InstanceLimiter
from safescale.inference.backends.port import Backend
from safescale.inference.catalog import ModelRow
from safescale.runtime.telemetry import Telemetry


@dataclass(frozen=True)
class BackendOptions:
    """What adapters are built with: instances of embedded models, their gate, where files may be kept, metrics."""

    instances: int
    limiter: InstanceLimiter
    cache_dir: Path
    telemetry: Telemetry


def _embedded(row: ModelRow, options: BackendOptions) -> Backend:
    return EmbeddedBackend(row, EmbeddedOptions(options.instances, options.limiter, options.cache_dir))


def _tgi(row: ModelRow, options: BackendOptions) -> Backend:
    from safescale.inference.backends.tgi.backend import TgiBackend

    return TgiBackend(row, options.telemetry)


def _openai(row: ModelRow, options: BackendOptions) -> Backend:
    from safescale.inference.backends.openai.backend import OpenAIBackend

    return OpenAIBackend(row, options.telemetry)


ADAPTERS: Mapping[str, Callable[[ModelRow, BackendOptions], Backend]] = {
    "embedded": _embedded,
    "openai": _openai,
    "tgi": _tgi,
}
"""Adapter by the catalog's field `backend`. Adapters over HTTP are imported here, as their extra may be missing."""


def build(row: ModelRow, options: BackendOptions) -> Backend:
    """Build the backend of a row; nothing is loaded or connected yet.

    Raises:
        FailedPreconditionError: a package of the backend is not installed.

    """
    try:
        return ADAPTERS[row.backend](row, options)
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            f"model {row.id}: backend {row.backend} needs the package {error.name}; expected the extra inference"
        ) from error
