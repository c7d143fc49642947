"""The files of deployment, read as their tools read them."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SERVICES = ("inference", "retrieval", "orchestration", "scoring", "gateway", "model-server")
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+):-([^}]*)\}")


def filled(text: str) -> str:
    """A text with the defaults of its variables."""
    return VARIABLE.sub(lambda found: found.group(2), text)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def own_services() -> tuple[str, ...]:
    return SERVICES


@pytest.fixture(scope="session")
def compose_text() -> str:
    return (ROOT / "deploy/compose.yaml").read_text()


@pytest.fixture(scope="session")
def compose(compose_text: str) -> dict[str, Any]:
    content = yaml.safe_load(filled(compose_text))
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="session")
def dockerfile() -> str:
    """The lines of the services' Dockerfile, joined where they go on, without comments."""
    lines = (ROOT / "services/Dockerfile").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")


@pytest.fixture(scope="module")
def load_script() -> Iterator[Callable[[Path], ModuleType]]:
    """Loads a script that no package holds; it is known by its name until the module's tests end."""
    loaded: list[str] = []

    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up.
        sys.modules[path.stem] = module
        loaded.append(path.stem)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]
