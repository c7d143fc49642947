"""`safescale tokens`: tokens for the tokens file."""

import sys
from typing import Annotated, Literal

import typer

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
) -> None:
    """Print a new token on standard output, and on standard error its entry for SAFESCALE_TOKENS_FILE.

    The token is shown this once and kept nowhere: the entry holds its SHA-256 alone.
    """
    from safescale.runtime.auth.tokens import check_name, entry, new_token

    token = new_token()
    line = entry(check_name(name), token, role)
    print(f"Add this to `tokens:` in the file of SAFESCALE_TOKENS_FILE:\n{line}", file=sys.stderr)
    typer.echo(token)
