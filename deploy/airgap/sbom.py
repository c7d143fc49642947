#!/usr/bin/env python3
"""Bill of materials (CycloneDX 1.6, JSON) of an image that `docker save` wrote: Debian, Python and Java packages.

usage: sbom.py ARCHIVE.tar NAME:TAG > FILE.cdx.json. Needs Python 3.11 and no package. It reads what the image says of
itself and runs nothing of it. The same image gives the same bytes.
"""

import hashlib
import io
import json
import posixpath
import re
import sys
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from email import message_from_bytes
from typing import IO, Any
from urllib.parse import quote

DPKG = re.compile(r"var/lib/dpkg/(status|status\.d/[^/]+)$")
PYTHON = re.compile(r".*\.dist-info/METADATA$")
JAR = re.compile(r".*/(?P<name>[^/]+?)(-(?P<version>\d[^/]*))?\.jar$")
OS_RELEASE = "usr/lib/os-release"
NAMES = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
"""Name space of URLs (RFC 9562), for serial numbers made of what they number."""

MAX_LICENSE = 100
"""Characters of a licence's name; what is longer is the licence's text."""

Component = dict[str, Any]
Files = dict[str, bytes]


class ArchiveError(Exception):
    """The archive cannot be read as an image."""


def files_of(archive: tarfile.TarFile) -> tuple[str, Files]:
    """Digest of the image's configuration, and the files that matter as the last layer leaves them.

    Raises:
        ArchiveError: it is no archive of one image.

    """
    manifest = json.load(_member(archive, "manifest.json"))
    if not isinstance(manifest, list) or len(manifest) != 1:
        raise ArchiveError("manifest.json does not list one image; expected an archive of one")
    config = _member(archive, manifest[0]["Config"]).read()
    files: Files = {}
    for layer in manifest[0]["Layers"]:
        _apply(_member(archive, layer), files)
    return hashlib.sha256(config).hexdigest(), files


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """Return a file of the archive, not read yet: layers can have many gigabytes."""
    try:
        found = archive.extractfile(name)
    except KeyError as error:
        raise ArchiveError(f"{name} is missing; expected an archive of docker save") from error
    if found is None:
        raise ArchiveError(f"{name} is no file; expected an archive of docker save")
    return found


def _apply(layer: IO[bytes], files: Files) -> None:
    """Lay a layer over the files: what it removes goes, what it has comes or takes its place."""
    added: Files = {}
    with tarfile.open(fileobj=layer, mode="r:*") as content:
        for entry in content:
            path = posixpath.normpath(entry.name).lstrip("/")
            folder, name = posixpath.split(path)
            if name == ".wh..wh..opq":
                _remove(files, folder, below=True)
            elif name.startswith(".wh."):
                _remove(files, posixpath.join(folder, name.removeprefix(".wh.")))
            elif entry.isfile() and _matters(path):
                added[path] = content.extractfile(entry).read()  # type: ignore[union-attr]
            elif not entry.isdir():
                # Whatever else stands there now, it is not the file of before.
                files.pop(path, None)
    files.update(added)


def _remove(files: Files, path: str, below: bool = False) -> None:
    for name in [name for name in files if name.startswith(f"{path}/") or (name == path and not below)]:
        del files[name]


def _matters(path: str) -> bool:
    return path == OS_RELEASE or any(pattern.match(path) for pattern in (DPKG, PYTHON, JAR))


def components(files: Files) -> list[Component]:
    """Each package once, ordered by its reference."""
    release = _os_release(files.get(OS_RELEASE, b""))
    found: dict[str, Component] = {}
    if "ID" in release:
        version = release.get("VERSION_ID", "")
        system: Component = {"type": "operating-system", "bom-ref": f"os:{release['ID']}@{version}"}
        found[system["bom-ref"]] = system | {"name": release["ID"], "version": version}
    for path in sorted(files):
        for component in _packages(path, files[path], release):
            found.setdefault(component["bom-ref"], component)
    return [found[reference] for reference in sorted(found)]


def _packages(path: str, content: bytes, release: dict[str, str]) -> Iterator[Component]:
    if DPKG.match(path):
        yield from _debian(content, release)
    elif PYTHON.match(path):
        yield from _python(content)
    elif path != OS_RELEASE:
        yield _java(path, content)


def _os_release(content: bytes) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in content.decode(errors="replace").splitlines() if "=" in line)
    return {name: value.strip("\"'") for name, value in pairs}


def _fields(content: bytes) -> dict[str, str]:
    """Fields of a paragraph such as both Debian and Python have; the last of those that are there twice."""
    return {name: str(value) for name, value in message_from_bytes(content).items()}


def _library(purl: str, name: str, version: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _debian(content: bytes, release: dict[str, str]) -> Iterator[Component]:
    vendor = release.get("ID", "debian")
    distro = f"&distro={vendor}-{release['VERSION_ID']}" if release.get("VERSION_ID") else ""
    for paragraph in re.split(rb"\n\s*\n", content):
        fields = _fields(paragraph.strip() + b"\n")
        name, version = fields.get("Package"), fields.get("Version")
        # Packages that were removed leave their settings, and their paragraph.
        if not name or not version or not fields.get("Status", "install ok installed").endswith(" installed"):
            continue
        architecture = fields.get("Architecture", "all")
        purl = f"pkg:deb/{vendor}/{quote(name)}@{quote(version, safe='.~')}?arch={architecture}{distro}"
        yield _library(purl, name, version)


def _python(content: bytes) -> Iterator[Component]:
    fields = _fields(content)
    name, version = fields.get("Name"), fields.get("Version")
    if not name or not version:
        return
    normal = re.sub(r"[-_.]+", "-", name).lower()
    component = _library(f"pkg:pypi/{quote(normal)}@{quote(version, safe='.')}", name, version)
    expression, license_name = fields.get("License-Expression"), fields.get("License", "").strip()
    if expression:
        component["licenses"] = [{"expression": expression}]
    elif license_name and "\n" not in license_name and len(license_name) <= MAX_LICENSE:
        component["licenses"] = [{"license": {"name": license_name}}]
    yield component


def _java(path: str, content: bytes) -> Component:
    """Return a jar, by the one Maven artifact that it says to be, else by its file name."""
    named = JAR.match(path)
    name, version = (named["name"], named["version"] or "") if named else (posixpath.basename(path), "")
    purl = f"pkg:generic/{quote(name)}" + (f"@{quote(version, safe='.')}" if version else "")
    artifact = _maven(content)
    if artifact:
        group, name, version = artifact
        purl = f"pkg:maven/{quote(group)}/{quote(name)}@{quote(version, safe='.')}"
    digest = hashlib.sha256(content).hexdigest()
    return _library(purl, name, version) | {"hashes": [{"alg": "SHA-256", "content": digest}]}


def _maven(content: bytes) -> tuple[str, str, str] | None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as jar:
            found = [name for name in jar.namelist() if re.fullmatch(r"META-INF/maven/.+/pom\.properties", name)]
            text = jar.read(found[0]).decode(errors="replace") if len(found) == 1 else ""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error):
        return None
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    artifact = tuple(values.get(name, "").strip() for name in ("groupId", "artifactId", "version"))
    return artifact if all(artifact) else None  # type: ignore[return-value]


def bill(image: str, digest: str, files: Files) -> dict[str, Any]:
    """Return the bill of materials of an image."""
    name, _, tag = image.rpartition(":")
    subject = {"type": "container", "bom-ref": f"image:{image}", "name": name or image, "version": tag if name else ""}
    found = components(files)
    content = json.dumps([image, digest, found], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMES, content)}",
        "version": 1,
        "metadata": {"component": subject | {"properties": [{"name": "image:config", "value": f"sha256:{digest}"}]}},
        "components": found,
        "dependencies": [{"ref": subject["bom-ref"], "dependsOn": [each["bom-ref"] for each in found]}],
    }


def main(arguments: list[str]) -> int:
    """Write the bill of an archive to standard output; exit code 2 where there is none."""
    if len(arguments) != 2:
        print("sbom.py: expected ARCHIVE.tar NAME:TAG", file=sys.stderr)
        return 2
    path, image = arguments
    try:
        with tarfile.open(path) as archive:
            digest, files = files_of(archive)
    except (OSError, tarfile.TarError, ArchiveError, ValueError, KeyError, TypeError) as error:
        print(f"sbom.py: {path}: {error}", file=sys.stderr)
        return 2
    json.dump(bill(image, digest, files), sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
