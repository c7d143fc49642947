"""`safescale backup` and `safescale restore`: every record in one file, and back."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from safescale.admin.backup import KIND_ORDER, back_up
from safescale.admin.backup import restore as restore_records
from safescale.cli.operate.records import open_records
from safescale.cli.runner import run_async
from safescale.core.errors import AlreadyExistsError, InvalidInputError
from safescale.runtime.documents.port import DocumentStore
from safescale.runtime.files.atomic import PRIVATE, creating
from safescale.runtime.settings import Settings, load_settings

STDOUT = "-"


def backup(
    file: Annotated[str, typer.Argument(help="File to write, NAME.jsonl.gz; - writes to standard output.")],
) -> None:
    """Write every record to one file: of Elasticsearch where it is set, else of the data folder. Services may go on."""
    if file == STDOUT and sys.stdout.isatty():
        raise InvalidInputError("standard output is a terminal; expected a file or a pipe")
    if file != STDOUT and os.path.lexists(file):
        raise AlreadyExistsError(f"{file} exists; expected the name of a new file")
    run_async(_backup(load_settings(), file), hint="Stopped; there is no backup.")


def restore(
    file: Annotated[Path, typer.Argument(help="A file of `safescale backup`.")],
) -> None:
    """Write the records of a backup that are not there. The file is checked before; what is there stays as it is."""
    run_async(_restore(load_settings(), file), hint="Stopped. The same command goes on from here.")


async def _backup(settings: Settings, name: str) -> None:
    async with open_records(settings, alone=False) as store:
        if name == STDOUT:
            counts = await back_up(store, sys.stdout.buffer, _progress)
        else:
            counts = await _to_file(store, Path(name))
    typer.echo(_table({"records": counts}), err=True)


async def _to_file(store: DocumentStore, target: Path) -> Mapping[str, int]:
    """Write under another name, then give it its own: a backup of this name is whole."""
    with creating(target, PRIVATE) as out:
        return await back_up(store, out, _progress)


async def _restore(settings: Settings, path: Path) -> None:
    async with open_records(settings, alone=True) as store:
        restored = await restore_records(store, path, _progress)
    there = {kind: number - restored.written.get(kind, 0) for kind, number in restored.found.items()}
    typer.echo(_table({"records": restored.found, "written": restored.written, "there already": there}))


def _progress(kind: str, number: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{kind}: {number:,}\x1b[K", err=True, nl=False)


def _table(columns: Mapping[str, Mapping[str, int]]) -> str:
    """Numbers of each kind, a column for each mapping, with their sums."""
    kinds = [kind for kind in KIND_ORDER if any(kind in numbers for numbers in columns.values())]
    lines = [f"{'kind':16}" + "".join(f"{heading:>15}" for heading in columns)]
    lines += [f"{kind:16}" + "".join(f"{n.get(kind, 0):>15,}" for n in columns.values()) for kind in kinds]
    lines.append(f"{'all':16}" + "".join(f"{sum(n.values()):>15,}" for n in columns.values()))
    return "\n".join(lines)
