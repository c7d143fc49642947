"""Bills of materials: what an image holds after its last layer, in the form that CycloneDX 1.6 demands."""

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 1:2.41-12+deb13u1
Description: GNU C Library
 with a second line

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.152
"""
PYTHON = "opt/lib/python3.13/site-packages"
OS = {"usr/lib/os-release": b'ID=debian\nVERSION_ID="13"\n'}


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def metadata(name: str, version: str, more: str = "") -> dict[str, bytes]:
    text = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{more}\nLong description\n"
    return {f"{PYTHON}/{name}-{version}.dist-info/METADATA": text.encode()}


def jar(*poms: tuple[str, str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("A.class", "x")
        for group, artifact, version in poms:
            text = f"#Created\ngroupId={group}\nartifactId={artifact}\nversion={version}\n"
            archive.writestr(f"META-INF/maven/{group}/{artifact}/pom.properties", text)
    return out.getvalue()


@pytest.fixture
def run(root: Path, tmp_path: Path):
    def call(*layers: bytes, image: str = "safescale/scoring:0.1.0") -> subprocess.CompletedProcess[str]:
        manifest = [{"Config": "config.json", "RepoTags": [image], "Layers": [f"{i}.tar" for i in range(len(layers))]}]
        files = {f"{i}.tar": layer for i, layer in enumerate(layers)}
        files |= {"config.json": b"{}", "manifest.json": json.dumps(manifest).encode()}
        path = tmp_path / "image.tar"
        path.write_bytes(tar(files))
        script = root / "deploy/airgap/sbom.py"
        return subprocess.run([sys.executable, script, path, image], capture_output=True, text=True, check=False)

    return call


@pytest.fixture
def bill(run):
    def made(*layers: bytes) -> dict[str, Any]:
        done = run(*layers)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return made


def purls(content: dict[str, Any]) -> list[str]:
    return [each["purl"] for each in content["components"] if "purl" in each]


def test_it_has_what_the_format_demands(bill) -> None:
    content = bill(tar(OS | {"var/lib/dpkg/status": STATUS.encode()} | metadata("orjson", "3.11", "License: MIT\n")))
    assert content["bomFormat"] == "CycloneDX"
    assert content["specVersion"] == "1.6"
    assert content["version"] == 1
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", content["serialNumber"])
    subject = content["metadata"]["component"]
    assert (subject["type"], subject["name"], subject["version"]) == ("container", "safescale/scoring", "0.1.0")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert subject["properties"] == [{"name": "image:config", "value": f"sha256:{digest}"}]
    references = [each["bom-ref"] for each in content["components"]]
    assert len(references) == len(set(references)) == 4
    for each in content["components"]:
        assert each["type"] in ("library", "operating-system")
        assert each["name"]
        assert isinstance(each["version"], str)
    assert content["dependencies"] == [{"ref": subject["bom-ref"], "dependsOn": references}]


def test_packages_of_debian_that_are_installed(bill) -> None:
    assert purls(bill(tar(OS | {"var/lib/dpkg/status": STATUS.encode()}))) == [
        "pkg:deb/debian/adduser@3.152?arch=all&distro=debian-13",
        "pkg:deb/debian/libc6@1%3A2.41-12%2Bdeb13u1?arch=amd64&distro=debian-13",
    ]


@pytest.mark.parametrize(
    ("more", "licenses"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: other\n", [{"expression": "MIT OR Apache-2.0"}]),
        ("License: BSD\n", [{"license": {"name": "BSD"}}]),
        ("License: Copyright\n        All rights\n", None),
        ("", None),
    ],
)
def test_packages_of_python_with_their_licence(bill, more: str, licenses: list | None) -> None:
    (component,) = bill(tar(metadata("Typing_Extensions", "4.15.0", more)))["components"]
    assert component["purl"] == "pkg:pypi/typing-extensions@4.15.0"
    assert component.get("licenses") == licenses


def test_jars_by_their_artifact_or_their_name(bill) -> None:
    plain, shaded = jar(("org.apache.kafka", "kafka-clients", "4.4.0")), jar(("a", "b", "1"), ("c", "d", "2"))
    content = bill(tar({"lib/x.jar": plain, "lib/lucene-core-10.3.jar": shaded, "lib/broken.jar": b"no zip"}))
    assert purls(content) == [
        "pkg:generic/broken",
        "pkg:generic/lucene-core@10.3",
        "pkg:maven/org.apache.kafka/kafka-clients@4.4.0",
    ]
    assert content["components"][2]["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(plain).hexdigest()}]


def test_a_later_layer_replaces_and_removes(bill) -> None:
    first = tar(metadata("kept", "1") | metadata("gone", "1") | {"old/a-1.jar": jar(), "all/b-1.jar": jar()})
    folder = f"{PYTHON}/.wh.gone-1.dist-info"
    second = tar({folder: b"", "old/.wh.a-1.jar": b"", "all/.wh..wh..opq": b"", "all/c-1.jar": jar()})
    assert purls(bill(first, gzip.compress(second))) == ["pkg:generic/c@1", "pkg:pypi/kept@1"]


def test_the_same_image_gives_the_same_bytes(run) -> None:
    layer = tar(OS | metadata("orjson", "3.11"))
    assert run(layer).stdout == run(layer).stdout
    assert run(layer).stdout != run(layer, tar({"lib/a-1.jar": jar()})).stdout


def test_a_text_that_is_not_ascii_is_kept_apart(bill) -> None:
    files = metadata("orjson", "3.11", "License: Lizenz für alle\n")
    (component,) = bill(tar(files))["components"]
    assert component["licenses"][0]["license"]["name"].startswith("Lizenz f")


@pytest.mark.parametrize("content", [b"", b"no archive", tar({"other": b""}), tar({"manifest.json": b"[]"})])
def test_what_is_no_image_is_said(root: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(content)
    command = [sys.executable, root / "deploy/airgap/sbom.py", path, "a:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"sbom.py: {path}: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
