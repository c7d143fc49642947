"""The protos: linted, compatible with their last release, their stubs current."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).with_name("buf")


def buf(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "protos" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def test_every_element_is_commented_and_named_by_the_rules() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout


def test_a_missing_comment_is_found(copy: Path) -> None:
    proto = copy / "protos" / "safescale" / "common" / "v1" / "common.proto"
    proto.write_text(proto.read_text().replace("  // The option is clinically unsafe advice.\n", ""))
    assert 'Field "unsafe" should have a non-empty comment' in buf("lint", cwd=copy).stdout


def test_nothing_breaks_the_last_release_and_a_break_is_found(copy: Path) -> None:
    assert buf("breaking", "--against", "protos/released.binpb").returncode == 0
    proto = copy / "protos" / "safescale" / "common" / "v1" / "common.proto"
    proto.write_text(proto.read_text().replace("bool unsafe = 2;", "bool unsafe = 7;"))
    done = buf("breaking", "--against", "protos/released.binpb", cwd=copy)
    assert done.returncode != 0
    assert "OptionLabels" in done.stdout


def test_the_stubs_are_current(generate, capfd) -> None:
    assert generate.stale() == []
    capfd.readouterr()


def test_a_stub_that_is_not_current_is_named(generate, tmp_path: Path, capfd) -> None:
    generate.generate(tmp_path)
    stub = tmp_path / "common" / "v1" / "common_pb2.pyi"
    stub.write_text(stub.read_text() + "# changed\n")
    assert generate.stale(tmp_path) == ["common/v1/common_pb2.pyi"]
    capfd.readouterr()
