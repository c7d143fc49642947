"""Packages that not every installation has: which extra brings a module that a command could not import."""

from collections.abc import Mapping, Sequence

from safescale.core.errors import FailedPreconditionError

EXTRA_OF: Mapping[str, str] = {
    "pandas": "report", "pyarrow": "report", "altair": "report", "vl_convert": "report", "jinja2": "report",
    "markupsafe": "report",
    "xllamacpp": "embedded", "tokenizers": "embedded", "safetensors": "embedded",
    "kafka": "grid", "crc32c": "grid", "lz4": "grid", "elasticsearch": "grid", "elastic_transport": "grid",
    "opentelemetry.sdk": "tracing", "opentelemetry.exporter": "tracing",
    "aiohttp": "inference", "huggingface_hub": "inference", "httpx2": "inference",
    "bm25s": "retrieval",
    "fastapi": "gateway", "starlette": "gateway", "uvicorn": "gateway", "python_multipart": "gateway",
    "scipy": "scoring",
}  # fmt: skip
"""The extra that brings each module and its submodules. What every installation has is not listed."""

OF_SERVICES: Mapping[str, Sequence[str]] = {
    "inference": ("inference",), "retrieval": ("retrieval",), "orchestration": (), "scoring": ("scoring",),
}  # fmt: skip
"""Extras of a process that hosts a service."""


def lacking(error: ImportError, services: Sequence[str] = ()) -> FailedPreconditionError | None:
    """Return the error that names the extra to install for a failed import; None when no extra brings the module.

    `services` are those that were to be hosted in this process: their extras are named at once, not one by one.
    """
    name = f"{error.name or ''}."
    module = next((each for each in EXTRA_OF if name.startswith(f"{each}.")), None)
    if module is None:
        return None
    whole = len(services) == len(OF_SERVICES)
    hosting = {extra for service in services for extra in OF_SERVICES[service]}
    extras = sorted({EXTRA_OF[module], *hosting, *(("embedded",) if whole else ())})
    what = "hosting the services in this process" if whole else "this command"
    other = "; or name a running server in SAFESCALE_SERVER" if whole else ""
    return FailedPreconditionError(
        f"{what} needs the package {module}, which is not installed; "
        f"expected the extra{'s' if len(extras) > 1 else ''} {', '.join(extras)}: "
        f"pip install 'safescale[{','.join(extras)}]'{other}"
    )
