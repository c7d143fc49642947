"""Environments with some of the installed packages alone, without an index: folders of links."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

NAME = re.compile(r"^([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?")


def normal(name: str) -> str:
    """A distribution's name in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needs(found: Distribution, extras: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    from packaging.requirements import Requirement

    wanted = ("", *extras)
    for line in found.requires or ():
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in wanted):
            yield normal(need.name), tuple(sorted(need.extras))


def closure(roots: Iterable[str], extras: Iterable[str] = ()) -> set[str]:
    """Names of distributions with all that they need; `extras` are those of the roots."""
    left = [(normal(name), tuple(extras)) for name in roots]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while left:
        each = left.pop()
        if each not in seen:
            seen.add(each)
            left += _needs(distribution(each[0]), each[1])
    return {name for name, _ in seen}


@cache
def _owners() -> Mapping[str, list[str]]:
    return packages_distributions()


def linked(folder: Path, names: Iterable[str]) -> Path:
    """A folder of links to the files of installed distributions, for PYTHONPATH."""
    shared = {top for top, owned in _owners().items() if len(set(owned)) > 1}
    for name in names:
        found = distribution(name)
        depths: set[Path] = set()
        for file in found.files or ():
            parts = file.parts
            if parts[0] == ".." or parts[0] == "__pycache__":
                continue
            depths.add(Path(*parts[: 2 if parts[0] in shared else 1]))
        for relative in depths:
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(Path(str(found.locate_file(str(relative)))))
    return folder


def run_alone(
    paths: Iterable[Path], *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages of these folders alone, its own library besides."""
    return subprocess.run(
        [sys.executable, "-S", "-P", *arguments],
        env={"PYTHONPATH": ":".join(map(str, paths)), "PATH": "", "NO_COLOR": "1", **(environment or {})},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=110,
    )
