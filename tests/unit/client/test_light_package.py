"""The client by itself: built, and used where nothing but grpcio and protobuf is installed."""

import json
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from tests.support.environments import closure, linked, run_alone

from safescale.client import Answer, Letters, ScoringClient

from .conftest import QUESTION, Server

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "services" / "client"
LARGEST_BYTES = 30 * 1000**2

USE = """
import asyncio, json, sys
from pathlib import Path
import safescale_client as light
from safescale_client import Answer, AsyncScoringClient, ClientOptions, Letters, OptionLabels, Question, ScoringClient

no = OptionLabels(False, False, False)
question = Question("chest-001", "Which sign?", {"A": "Deep sulcus sign", "B": "Kerley B lines"}, "A",
                    labels={"A": no, "B": OptionLabels(True, True, False)})
found = {}
with ScoringClient(sys.argv[1], ClientOptions(timeout_s=20, token_file=sys.argv[2])) as client:
    one = client.score(Answer("**B**", question, "x"))
    found["one"] = [one.answer_id, one.letter, one.high_risk_error]
    found["many"] = [each.letter for each in client.score_many(Answer(text, question) for text in "ABAB")]
    rows = client.metrics([question], [Letters("m", "c", "chest-001", greedy="B")])
    found["metrics"] = [[row.metric, row.value] for row in rows if row.metric == "high_risk_error_rate"]
    try:
        client.metrics([question], [Letters("m", "zero_shot", "other-question", "A")])
    except light.SafescaleError as error:
        found["error"] = [type(error).__name__, error.reason, "other-question" in error.message]

async def many():
    async def source():
        for text in "AB":
            yield Answer(text, question)
    async with AsyncScoringClient(sys.argv[1]) as client:
        return [each.letter async for each in client.score_many(source())]

found["async"] = asyncio.run(many())
tops = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}
found["modules"] = sorted(tops - set(sys.stdlib_module_names) - {"__main__", "__mp_main__"})
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, timeout=100)
    return next(folder.glob("safescale_client-*.whl"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("light")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture
def token(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("secret\n")
    return str(tmp_path / "token")


def check(found: dict) -> None:
    assert found["one"] == ["x", "B", True]
    assert found["many"] == list("ABAB")
    assert found["metrics"] == [["high_risk_error_rate", 1.0]]
    assert found["error"] == ["InvalidInputError", "INVALID_INPUT", True]
    assert found["async"] == list("AB")


def test_it_needs_grpcio_and_protobuf_alone(unpacked: Path, server: Server, token: str, tmp_path: Path) -> None:
    packages = linked(tmp_path / "packages", closure(["grpcio", "protobuf"]))
    ended = run_alone([unpacked, packages], "-c", USE, server.address, token)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    check(found)
    assert set(found["modules"]) <= {"grpc", "google", "safescale_client", "typing_extensions"}


def test_both_packages_are_loaded_in_one_process(unpacked: Path, server: Server, token: str) -> None:
    for first, second in (("safescale.client", "safescale_client"), ("safescale_client", "safescale.client")):
        code = f"import {first}, {second}\n{USE}"
        ended = run_alone([unpacked, ROOT / "services", *map(Path, sys.path[1:])], "-c", code, server.address, token)
        assert ended.returncode == 0, ended.stderr
        check(json.loads(ended.stdout))


def test_it_has_the_names_of_the_full_client(unpacked: Path) -> None:
    import safescale.client

    code = "import safescale_client; print(sorted(safescale_client.__all__))"
    ended = run_alone([unpacked, *map(Path, sys.path[1:])], "-c", code)
    assert ended.stdout.strip() == str(sorted(safescale.client.__all__)), ended.stderr


def test_it_is_light(wheel: Path) -> None:
    names = closure(["grpcio", "protobuf"])
    assert names == {"grpcio", "protobuf", "typing-extensions"}
    sizes = {
        name: sum(Path(str(file.locate())).stat().st_size for file in distribution(name).files or () if _kept(file))
        for name in names
    }
    own = sum(each.file_size for each in zipfile.ZipFile(wheel).infolist())
    assert sum(sizes.values()) + own < LARGEST_BYTES, sizes
    assert own < 200_000


def _kept(file) -> bool:
    return "__pycache__" not in file.parts and Path(str(file.locate())).is_file()


@pytest.mark.parametrize("protobuf", ["protobuf>=6.30,<7", "protobuf>=7"])
def test_it_is_installed_and_used_by_itself(
    protobuf: str, wheel: Path, server: Server, token: str, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    install = [*pip, "install", "--quiet", "--no-compile", "--retries", "0", "--timeout", "10"]
    done = subprocess.run([*install, str(wheel), protobuf], capture_output=True, text=True, check=False, timeout=110)
    if done.returncode:
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1][:200]}")
    ended = subprocess.run(
        [str(python), "-c", USE, server.address, token],
        capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    check(json.loads(ended.stdout))


def test_the_full_client_gives_the_same(server: Server) -> None:
    with ScoringClient(server.address) as client:
        assert client.score(Answer("**B**", QUESTION, "x")).high_risk_error
        rows = client.metrics([QUESTION], [Letters("m", "c", "chest-001", greedy="B")])
    assert [row.value for row in rows if row.metric == "high_risk_error_rate"] == [1.0]
