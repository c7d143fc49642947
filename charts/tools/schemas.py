"""JSON schemas of Kubernetes for kubeconform, out of a wheel of kubernetes-validate: schemas.py WHEEL FOLDER VERSION..

Their references point to a web server; here they point to the file beside them.
"""

import json
import sys
import zipfile
from pathlib import Path, PurePosixPath


def convert(wheel: Path, folder: Path, version: str) -> int:
    """Write the strict schemas of one version; returns how many there are."""
    source = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/"
    target = folder / f"v{version}-standalone-strict"
    target.mkdir(parents=True, exist_ok=True)
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(source) and name.endswith(".json"):
                text = archive.read(name).decode().replace('"/api/_definitions.json#', '"_definitions.json#')
                schema = json.loads(text)
                schema.pop("$id", None)
                (target / PurePosixPath(name).name).write_text(json.dumps(schema))
                count += 1
    return count


def main() -> None:
    """Convert each named version.

    Raises:
        SystemExit: 2 where the wheel has no such version.

    """
    wheel, folder, *versions = sys.argv[1:]
    for version in versions:
        if not convert(Path(wheel), Path(folder), version):
            sys.exit(f"schemas.py: {wheel} has no schemas of Kubernetes {version}")


if __name__ == "__main__":
    main()
