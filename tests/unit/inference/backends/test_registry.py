import sys
from pathlib import Path

import pytest

from safescale.core.errors import FailedPreconditionError
from safescale.inference.backends.llama.pool import InstanceLimiter
from safescale.inference.backends.port import Backend
from safescale.inference.backends.registry import ADAPTERS, BackendOptions, build
from safescale.inference.catalog import BACKENDS, HTTP_BACKENDS, ModelRow, load_catalog
from safescale.runtime.telemetry import Telemetry

PORT = [name for name in vars(Backend) if not name.startswith("_")]


def row_of(backend: str) -> ModelRow:
    if backend == "embedded":
        return load_catalog(None).row("smollm2-135m-instruct")
    values = {
        "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 6000, "instruct": True, "license": "MIT",
        "backend": backend, "endpoint": {"urls": ["http://127.0.0.1:1"]},
    }  # fmt: skip
    return ModelRow.model_validate(values)


def options(folder: Path) -> BackendOptions:
    return BackendOptions(1, InstanceLimiter(1), folder, Telemetry())


def test_every_backend_of_the_catalog_has_an_adapter_and_no_other_has() -> None:
    assert set(ADAPTERS) == set(BACKENDS)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_an_adapter_offers_all_of_the_port(backend, tmp_path) -> None:
    built = build(row_of(backend), options(tmp_path))
    assert [name for name in PORT if not hasattr(built, name)] == []
    await built.close()


@pytest.mark.parametrize("backend", HTTP_BACKENDS)
def test_a_missing_package_is_named_with_its_extra(backend, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, f"safescale.inference.backends.{backend}.backend", None)
    with pytest.raises(FailedPreconditionError, match=f"backend {backend} needs the package .*the extra inference"):
        build(row_of(backend), options(tmp_path))
