"""Errors of our tree, rebuilt from a gRPC status."""

from collections.abc import Mapping

from safescale.core import errors as tree
from safescale.core.errors import SafescaleError

OF_CODES: Mapping[str, tuple[type[SafescaleError], str]] = {
    "UNAVAILABLE": (tree.ServiceUnavailableError, "service not reachable: {}"),
    # A caller that cancels sees its own cancellation: this one is a server that stops.
    "CANCELLED": (tree.ServiceUnavailableError, "service stopped in the middle of the call"),
    "UNIMPLEMENTED": (
        tree.FailedPreconditionError,
        "service does not have what was called: it is of an older version than its caller ({})",
    ),
    "DEADLINE_EXCEEDED": (tree.BackendTimeoutError, "service did not answer in time: {}"),
    "UNAUTHENTICATED": (tree.UnauthenticatedError, "{}"),
    "PERMISSION_DENIED": (tree.PermissionDeniedError, "{}"),
    "NOT_FOUND": (tree.NotFoundError, "{}"),
    "INVALID_ARGUMENT": (tree.InvalidInputError, "{}"),
}
"""Class and message of a status that no server of ours made, by the name of its code."""


def error_classes() -> tuple[type[SafescaleError], ...]:
    """Return every class of the tree, the root included."""
    found = [value for value in vars(tree).values() if isinstance(value, type) and issubclass(value, SafescaleError)]
    return tuple(dict.fromkeys(found))


def error_of_code(code: str, text: str) -> SafescaleError:
    """Return the error of a status without details of ours."""
    if code not in OF_CODES:
        return SafescaleError(f"{code}: {text}")
    kind, message = OF_CODES[code]
    return kind(message.format(text))


def rebuilt(reason: str, message: str, metadata: Mapping[str, str]) -> SafescaleError:
    """Return the error that a server of ours raised, with its defects in the message."""
    details = {k: v for k, v in metadata.items() if k != "retryable" and not k.startswith("defect_")}
    defects = [v for k, v in sorted(metadata.items()) if k.startswith("defect_")]
    message = "\n".join([message, *(f"  {defect}" for defect in defects if defect not in message)])
    for cls in error_classes():
        if cls.reason == reason:
            return cls(message, details=details)
    return SafescaleError(message, details=details)
