import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

COMMANDS = (
    "main",
    "runner",
    "operate/serve",
    "operate/topics",
    "operate/indices",
    "operate/kafka",
    "operate/backup",
    "operate/audit",
)
"""Modules of the command line that every container, or that of the setup, loads."""


def _imported(path: Path) -> set[str]:
    """Top-level names of the packages that a module imports when it is loaded."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"safescale"}


@pytest.mark.parametrize("service", ["inference", "retrieval", "orchestration", "scoring", "gateway"])
def test_an_image_holds_what_the_command_line_imports(root: Path, service: str) -> None:
    text = (root / f"requirements/{service}.txt").read_text()
    held = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
    distributions = packages_distributions()
    for module in COMMANDS:
        for name in _imported(root / f"services/safescale/cli/{module}.py"):
            known = {each.lower().replace("_", "-") for each in distributions[name]}
            assert known & held, f"safescale.cli.{module} imports {name}, which requirements/{service}.txt lacks"
