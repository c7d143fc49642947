import ast
import io
import re
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from tests.support.environments import closure, linked, normal, run_alone

from safescale.cli.measure import run
from safescale.cli.terminal.text import terminal
from safescale.runtime.extras import EXTRA_OF, lacking

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "services"

HELP = """
import importlib.abc, sys
from typer.testing import CliRunner

blocked = tuple(f"{each}." for each in sys.argv[1].split(",") if each)

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if f"{name}.".startswith(blocked):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from safescale.cli.main import COMMANDS, app
for command in ("", *COMMANDS):
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    if result.exit_code or "Usage" not in result.output:
        print(command, repr(result.exception), result.output)
"""


def _run(*arguments: str, paths: list[Path] | None = None, **environment: str):
    return run_alone([SOURCES, *(paths or map(Path, sys.path[1:]))], *arguments, environment=environment)


@pytest.mark.parametrize("extra", sorted(set(EXTRA_OF.values())))
def test_every_command_starts_without_the_packages_of_an_extra(extra: str) -> None:
    blocked = ",".join(module for module, of in EXTRA_OF.items() if of == extra)
    ended = _run("-c", HELP, blocked)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` of the package without extras brings."""
    names = closure(["safescale"]) - {"safescale"}
    return linked(tmp_path_factory.mktemp("base"), names)


def test_every_command_starts_where_nothing_but_the_basis_is_installed(base: Path) -> None:
    ended = _run("-c", HELP, "", paths=[base])
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


IMAGES = {
    "inference": ["inference"], "retrieval": ["retrieval"], "orchestration": ["orchestration"], "scoring": ["scoring"],
    "gateway": ["gateway"], "model-server": ["orchestration"], "standalone": ["orchestration", "embedded"],
}  # fmt: skip
"""The requirements that services/Dockerfile installs in each image whole."""


def test_the_images_are_those_of_the_dockerfile() -> None:
    text = (ROOT / "services" / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM builder AS (\S+)-venv\n(.*?)(?=^FROM|\Z)", text, re.MULTILINE | re.DOTALL)
    found = {name: re.findall(r"venv\.sh (\w+)(?= (?:&&|\\)|;)", body) for name, body in stages}
    # What follows EMBEDDED=1 is an option.
    found["inference"] = found["inference"][:1]
    assert found == IMAGES


@pytest.mark.parametrize("requirements", sorted(set(map(tuple, IMAGES.values()))), ids="+".join)
def test_every_command_starts_in_every_image(requirements: tuple[str, ...], tmp_path: Path) -> None:
    required: set[str] = set()
    for name in requirements:
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        required |= {normal(each) for each in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}
    installed = {normal(each.name) for each in distributions()}
    packages = linked(tmp_path, required & installed)
    ended = _run("-c", HELP, "", paths=[packages])
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["analyze", ".", "--labels", "x", "--out", "y"], "report"),
        (["report", "latest"], "report"),
        (["serve", "gateway"], "gateway"),
        (["serve", "model-server"], "inference"),
        (["serve", "all"], "embedded,inference,retrieval,scoring"),
        (["models"], "embedded,inference,retrieval,scoring"),
        (["runs", "list"], "embedded,inference,retrieval,scoring"),
    ],
)
def test_a_command_says_which_extra_it_lacks(base: Path, tmp_path: Path, arguments: list[str], extra: str) -> None:
    ended = _run("-m", "safescale.cli.main", *arguments, paths=[base], SAFESCALE_DATA_DIR=str(tmp_path))
    assert ended.returncode == 2
    assert f"pip install 'safescale[{extra}]'" in ended.stderr
    assert ended.stderr.count("\n") == 1


ANALYZE = """
import sys

sys.modules["scipy"] = None
from safescale.cli.main import main

sys.exit(main())
"""


def test_an_analysis_that_fits_lines_says_that_it_needs_scipy(tmp_path: Path) -> None:
    data = ROOT / "tests" / "reference" / "data"
    files = ["--labels", data / "benchmark_labels.json", "--models", data / "paper_models.csv", "--out", tmp_path]
    ended = _run("-c", ANALYZE, "analyze", *map(str, [data / "judged", *files, "--resamples", 2]))
    assert ended.returncode == 2
    assert "this command needs the package scipy" in ended.stderr
    assert "pip install 'safescale[scoring]'" in ended.stderr


@pytest.mark.parametrize(
    ("variable", "arguments"), [("ELASTICSEARCH", ["indices", "list"]), ("KAFKA", ["topics", "list"])]
)
def test_commands_of_a_grid_name_its_extra(base: Path, variable: str, arguments: list[str]) -> None:
    ended = _run(
        "-m", "safescale.cli.main", *arguments, paths=[base], **{f"SAFESCALE_{variable}": "http://localhost:1"}
    )
    assert ended.returncode == 2
    assert "safescale[grid]" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_each_package_that_is_imported_anywhere_is_of_the_basis_or_of_a_known_extra() -> None:
    imported: set[str] = set()
    for path in (SOURCES / "safescale").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    owners, basis = packages_distributions(), closure(["safescale"])
    known = set(sys.stdlib_module_names) | {"safescale"} | set(EXTRA_OF)
    strangers = {name for name in imported - known if not {normal(each) for each in owners.get(name, ())} & basis}
    assert strangers == set()


def test_what_is_missing_of_a_package_that_is_there_in_part_is_named() -> None:
    known = lacking(ModuleNotFoundError("No module", name="opentelemetry.exporter.otlp"))
    assert known is not None
    assert "needs the package opentelemetry.exporter" in known.message
    assert "pip install 'safescale[tracing]'" in known.message
    assert lacking(ModuleNotFoundError("No module", name="opentelemetry")) is None


async def test_a_run_whose_report_lacks_an_extra_is_told_so_after_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    async def without_pandas(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

    stream = io.StringIO()
    monkeypatch.setattr(run, "write_report", without_pandas)
    assert not await run._write_report(terminal(stream), None, "demo-1", Path("out"))
    assert "The report could not be written: this command needs the package pandas" in stream.getvalue()
    assert "pip install 'safescale[report]'" in stream.getvalue()


def test_the_extras_that_are_named_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(EXTRA_OF.values()) <= set(declared)


def test_an_import_that_no_extra_brings_stays_what_it_is() -> None:
    assert lacking(ModuleNotFoundError("No module named 'nonsense'", name="nonsense")) is None
    assert lacking(ImportError("cannot import name")) is None
