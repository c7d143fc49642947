"""`safescale tokens`: tokens for the tokens file."""

import io
import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from safescale.core.errors import StorageError
from safescale.runtime.files.atomic import PRIVATE, creating

app = typer.Typer(help="Make tokens that servers let in.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Make tokens that servers let in."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose token it is; stands in the audit log.")],
    role: Annotated[
        Literal["viewer", "reviewer", "runner", "admin"], typer.Option(help="What its holder may do.")
    ] = "viewer",
    out: Annotated[
        Path | None, typer.Option(help="New file for the token, which its owner alone can read; else standard output.")
    ] = None,
) -> None:
    """Print a new token on standard output, and on standard error its entry for SAFESCALE_TOKENS_FILE.

    The token is shown this once and kept nowhere: the entry holds its SHA-256 alone. A file that standard output goes
    to is made readable to its owner alone.
    """
    from safescale.runtime.auth.tokens import check_name, entry, new_token

    token = new_token()
    line = entry(check_name(name), token, role)
    if out is not None:
        with creating(out, PRIVATE) as file:
            file.write(f"{token}\n".encode())
    else:
        _make_private()
        typer.echo(token)
    typer.echo(f"Add this to `tokens:` in the file of SAFESCALE_TOKENS_FILE:\n{line}", err=True)


def _make_private() -> None:
    """Take a file behind standard output from other users' eyes, before anything is in it.

    Raises:
        StorageError: it cannot be.

    """
    try:
        descriptor = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, PRIVATE)
    except io.UnsupportedOperation:
        return
    except OSError as error:
        raise StorageError(
            f"standard output is a file that others may read ({error.strerror}); expected --out FILE"
        ) from error
