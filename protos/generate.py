"""Generates the Python stubs of all protos into services/safescale/rpc (or a folder given as the only argument).

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
        plugins = ["python", "grpc_python", "mypy", "mypy_grpc"]
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        arguments = [
            "protoc",
            f"-I{PROTOS}",
            f"-I{well_known}",
            *(f"--{name}_out={folder}" for name in plugins),
            *sources,
        ]
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


if __name__ == "__main__":
    for file in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT):
        print(file)
