"""What the paths and queries of several routes have in common."""

from typing import Annotated, Any

from fastapi import Path, Query, Request

from safescale.core.errors import Defect, InvalidInputError
from safescale.core.inputs.records import shown
from safescale.gateway.api.openapi.examples import RUN_ID
from safescale.gateway.config import DEFAULT_PAGE, MAX_PAGE

PREFIX = "/api/v1"
"""Begin of the paths of the API. Health and metrics are beside it."""

RUN_NAME = "^[a-z0-9-]{1,64}$"

RunName = Annotated[
    str,
    Path(
        description="Id of a run, a unique prefix of it of at least 4 characters, or `latest`.",
        examples=[RUN_ID],
        pattern=RUN_NAME,
    ),
]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Entries of a page.", examples=[DEFAULT_PAGE])]
Cursor = Annotated[str, Query(max_length=1024, description="`next_cursor` of the page before; empty for the first.")]
"""A cursor is a token of the service behind: opaque, and good as long as what it pages through."""


def known_query(request: Request) -> None:
    """Refuse query parameters that are not described: a misspelt filter must not give everything.

    Raises:
        InvalidInputError: with every one of them.

    """
    operation = described(request).get(request.method.lower(), {})
    names = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
    stray = [(name, value) for name, value in request.query_params.multi_items() if name not in names]
    if stray:
        expected = f"one of {', '.join(sorted(names))}" if names else "no query parameter"
        defects = [Defect("query", None, None, name[:60], shown(value), expected) for name, value in stray]
        raise InvalidInputError(f"{defects[0]}", defects=defects)


def described(request: Request) -> dict[str, Any]:
    """Operations of a request's path by method, as the OpenAPI description has them; none for an unknown path."""
    path = getattr(request.scope.get("route"), "path_format", "")
    found: dict[str, Any] = request.app.openapi()["paths"].get(path, {})
    return found
