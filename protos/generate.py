"""Generates the Python stubs of all protos into services/safescale/rpc; --check only lists those that are stale.

The generated modules import each other as `safescale.<name>.v1`; here they live under `safescale.rpc.<name>.v1`, so the
import lines are moved. Nothing else is changed.
"""

import re
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
DEFAULT_OUT = PROTOS.parent / "services" / "safescale" / "rpc"
IMPORT = re.compile(r"^(\s*)(from|import) safescale\.(\w+)\.v1\b", re.MULTILINE)


def generate(out: Path) -> list[Path]:
    """Write the stubs below `out` and return their paths, sorted.

    Raises:
        SystemExit: protoc refused a proto.

    """
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    written: list[Path] = []
    with tempfile.TemporaryDirectory() as folder:
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        # Beside this interpreter, wherever the environment's PATH points.
        beside = Path(sys.executable).parent
        plugins = [f"--plugin=protoc-gen-{name}={beside / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
        outputs = [f"--{name}_out={folder}" for name in ("python", "grpc_python", "mypy", "mypy_grpc")]
        arguments = ["protoc", f"-I{PROTOS}", f"-I{well_known}", *plugins, *outputs, *sources]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc refused the protos (see above)")
        root = Path(folder) / "safescale"
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            target = out / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(IMPORT.sub(r"\1\2 safescale.rpc.\3.v1", path.read_text()))
            written.append(target)
        for package in {path.parent for path in written}:
            for folder_path in (package, package.parent):
                init = folder_path / "__init__.py"
                if not init.exists():
                    init.write_text("")
                    written.append(init)
    return sorted(written)


def stale(out: Path = DEFAULT_OUT) -> list[str]:
    """Stubs below `out` that differ from what the protos give, or whose proto is gone; relative paths, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = {path.relative_to(folder): path.read_text() for path in generate(Path(folder))}
    stored = {path.relative_to(out): path.read_text() for path in out.glob("*/v1/*.py*") if path.is_file()}
    generated = {path: text for path, text in fresh.items() if path.name != "__init__.py"}
    stored = {path: text for path, text in stored.items() if path.name != "__init__.py"}
    return sorted(str(path) for path in generated.keys() | stored.keys() if generated.get(path) != stored.get(path))


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        differing = stale()
        if differing:
            raise SystemExit("stubs are not current; run `make proto`: " + ", ".join(differing))
    else:
        generate(DEFAULT_OUT)
