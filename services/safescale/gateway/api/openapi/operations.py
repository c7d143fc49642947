"""Parts of the OpenAPI description that operations share."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from safescale.gateway.api.openapi.examples import PROBLEM
from safescale.gateway.api.openapi.schemas import Problem

_WORDS = {
    400: "A parameter or the body is wrong; `defects` lists what.",
    401: "No bearer token, or one that is not known; only where the services ask for one.",
    403: "The token's role is not enough; `detail` names the role that is needed.",
    404: "There is no such thing.",
    408: "Nothing of the body came for a while.",
    409: "The state does not allow it; `detail` says which state it is.",
    413: "The body is over the limit.",
    415: "The media type is none of those listed.",
    429: "Too much of this kind is under way; `Retry-After` says when to try again.",
    502: "A model server answered something that is not of its protocol.",
    503: "A service cannot be reached; `Retry-After` says when to try again.",
    504: "A service did not answer in time.",
}


BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of the tokens file or of the issuer. Needed only where the services ask for one.",
}


def with_bearer(description: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the description with the bearer token (or none, where none is required) on operations below a path."""
    description["components"]["securitySchemes"] = {"bearer": BEARER}
    for path, operations in description["paths"].items():
        for operation in operations.values():
            operation["security"] = [{"bearer": []}, {}] if path.startswith(f"{prefix}/") else []
    return description


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors that an operation can answer, including those common to all."""
    found: dict[int | str, dict[str, Any]] = {
        status: _problem(_WORDS[status]) for status in sorted({*statuses, 400, 401, 403, 503, 504})
    }
    found["default"] = _problem("Any other error.")
    return found


def _problem(description: str) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}, "example": PROBLEM}
    return {"description": description, "content": {"application/problem+json": content}}


def answer(model: type[BaseModel], description: str) -> dict[str, Any]:
    """Return a JSON answer with the example of its schema."""
    extra = model.model_config.get("json_schema_extra")
    example = extra["examples"][0] if isinstance(extra, dict) else None  # type: ignore[index]
    return {"model": model, "description": description, "content": {"application/json": {"example": example}}}


def content(description: str, examples: Mapping[str, str]) -> dict[str, Any]:
    """Return an answer of other media types, each with an example."""
    schema = {"type": "string"}
    return {
        "description": description,
        "content": {kind: {"schema": schema, "example": example} for kind, example in examples.items()},
    }


def event_content(description: str, example: str) -> dict[str, Any]:
    """Return a stream of server-sent events, each as OpenAPI 3.2 describes one."""
    texts = {"data": {"type": "string"}, "event": {"type": "string"}, "id": {"type": "string"}}
    item = {"type": "object", "properties": {**texts, "retry": {"type": "integer", "minimum": 0}}}
    return {
        "description": description,
        "content": {"text/event-stream": {"itemSchema": item, "example": example}},
    }


def body(description: str, examples: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a request body that the route reads itself, by media type with an example of each."""
    found = {kind: {"schema": dict(schema or {"type": "string"}), "example": value} for kind, value in examples.items()}
    return {"requestBody": {"description": description, "required": True, "content": found}}
