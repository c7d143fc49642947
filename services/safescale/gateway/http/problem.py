"""Errors as RFC 9457 problem details: those of the services, those of the request, those of HTTP itself."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from safescale.core.errors import Defect, InvalidInputError, SafescaleError
from safescale.core.inputs.records import shown
from safescale.core.inputs.text import visible
from safescale.runtime.errors import to_problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
MAX_DEFECTS = 100
"""Defects listed in one answer."""


class HttpError(Exception):
    """A mistake that only HTTP knows, such as a media type; `reason` is a stable word for programs."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        retryable: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retryable = retryable
        self.headers = dict(headers or {})


def response_of(problem: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem as a response; a retryable one says when to try again."""
    found = dict(headers or {})
    problem = _seen(problem)
    if problem["retryable"]:
        found.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(orjson.dumps(problem), problem["status"], found, MEDIA_TYPE)


def _seen(value: Any) -> Any:
    """Return the value with every text printable; JSON has no form for halves of surrogate pairs either."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {key: _seen(each) for key, each in value.items()}
    return [_seen(each) for each in value] if isinstance(value, list) else value


def problem_of(error: SafescaleError) -> dict[str, Any]:
    """Problem details of an error of the tree. A limit that a request exceeds is 413: it will not do better later.

    Defects that came through a call are lines of the message; here they are a list again.
    """
    problem = to_problem(error)
    if error.reason == "LIMIT_EXCEEDED":
        problem["status"] = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    head, *lines = error.message.splitlines() or [""]
    if lines:
        problem["detail"] = head
        problem.setdefault("defects", [line.strip() for line in lines if line.strip()])
    found = problem.get("defects", [])
    if len(found) > MAX_DEFECTS:
        problem["defects"] = [*found[:MAX_DEFECTS], f"and {len(found) - MAX_DEFECTS} more"]
    return problem


def http_problem(error: HttpError) -> dict[str, Any]:
    """Problem details of a mistake of HTTP."""
    return {
        "type": f"urn:safescale:error:{error.reason.lower()}",
        "title": error.reason.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.detail,
        "reason": error.reason,
        "retryable": error.retryable,
    }


def of_framework(error: HTTPException) -> Response:
    """Return the problem of what the framework refuses before a route is reached: path or method unknown."""
    phrase = HTTPStatus(error.status_code).phrase
    reason = phrase.upper().replace(" ", "_").replace("-", "_")
    details = {
        404: "there is nothing at this path; GET /api/v1/openapi.json lists the paths",
        405: "this path does not take this method; the Allow header lists those it takes",
    }
    detail = details.get(error.status_code, str(error.detail))
    return response_of(http_problem(HttpError(error.status_code, reason, detail)), error.headers)


def validation_error(error: RequestValidationError) -> InvalidInputError:
    """Parameters or a body that do not fit, as the error that lists each defect."""
    defects = []
    for item in error.errors():
        kind, *path = map(str, item["loc"])
        field = ".".join(path)
        value = "missing" if item["type"] == "missing" else shown(item.get("input"))
        expected = item["msg"][0].lower() + item["msg"][1:]
        defects.append(Defect(kind, None, None, field, value, expected))
    count = f"{len(defects)} defect{'s' if len(defects) > 1 else ''}"
    return InvalidInputError(f"the request has {count}: {defects[0]}", defects=defects)
