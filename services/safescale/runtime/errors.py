"""One mapping of the error tree to gRPC status, RFC 9457 problem+json, dead-letter headers and stored failures."""

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from safescale.core.errors import SafescaleError
from safescale.rpc.common.v1 import common_pb2
from safescale.runtime.rebuilt import error_classes, error_of_code, rebuilt

DOMAIN = "safescale"

MAX_SENTENCE = 8192
"""Characters of a stored failure's message."""

MAX_STATUS_BYTES = 7000
"""Bytes that a status takes in the headers of an answer: gRPC clients drop answers whose headers are over 8 KiB."""

MAX_MESSAGE_BYTES = 3000
"""Bytes that its message takes of them as `grpc-message`; the details repeat it."""

MAX_DETAIL = 500
"""Characters of each of its details."""

HTTP_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "DEADLINE_EXCEEDED": 504,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 502,
    "INTERNAL": 500,
}
"""HTTP status of each gRPC code name (google.rpc.Code's own mapping; an answer lost at a backend is 502)."""


def as_safescale_error(error: BaseException) -> SafescaleError:
    """Return any exception as an error of the tree; an unknown one becomes INTERNAL, named by its type alone.

    The text of an unknown exception can hold a passage or an answer, so it goes no further.
    """
    if isinstance(error, SafescaleError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return from_rpc_error(error)
    return SafescaleError(f"unexpected {type(error).__name__}")


def to_status(error: SafescaleError) -> status_pb2.Status:
    """Status with an ErrorInfo (reason, domain, details, retryable) as in google.aip.dev/193.

    What would make it too long for the headers of an answer is cut: the message's end, details, the last defects.
    """
    message = _cut(error.message)
    left = MAX_STATUS_BYTES - _as_header(message) - _as_details(message)
    metadata = {"retryable": "true" if error.retryable else "false"}
    defects = {f"defect_{index:02d}": str(each) for index, each in enumerate(getattr(error, "defects", ())[:50])}
    for key, value in {**error.details, **defects}.items():
        short = _shortened(value, MAX_DETAIL)
        left -= _as_details(key, short)
        if left < 0:
            break
        metadata[key] = short
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    return status_pb2.Status(code=code_pb2.Code.Value(error.code), message=message, details=[info])


def _as_header(text: str) -> int:
    """Return the bytes of a text as `grpc-message`, where all but printable ASCII is written as %xx."""
    return sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in text.encode())


def _as_details(*texts: str) -> int:
    """Return the bytes of texts in `grpc-status-details-bin`, which is base64, with the framing of each."""
    return sum(len(text.encode()) + 8 for text in texts) * 4 // 3


def _cut(message: str) -> str:
    """Return the message, truncated where it would take more than its share of the headers."""
    message = _shortened(message, MAX_MESSAGE_BYTES)
    while _as_header(message) > MAX_MESSAGE_BYTES:
        message = _shortened(message, len(message) * 7 // 8)
    return message


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def from_rpc_error(error: grpc.aio.AioRpcError) -> SafescaleError:
    """Rebuild the error that a server of ours sent; a transport failure becomes a ServiceUnavailableError."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is not None:
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                return rebuilt(info.reason, status.message, info.metadata)
    code = error.code()
    return error_of_code(code.name, error.details() or code.name)


def to_failure(error: BaseException) -> common_pb2.Failure:
    """Failure message of an outcome that is stored; a very long sentence is cut, so that it fits wherever it goes."""
    known = as_safescale_error(error)
    message = _shortened(known.message, MAX_SENTENCE)
    return common_pb2.Failure(code=known.code, reason=known.reason, message=message, retryable=known.retryable)


def error_of_failure(failure: common_pb2.Failure, prefix: str = "") -> SafescaleError:
    """Return the error that a stored failure came from, its message after a prefix."""
    message = prefix + failure.message
    for cls in error_classes():
        if cls.reason == failure.reason:
            return cls(message)
    return SafescaleError(message)


def to_problem(error: SafescaleError) -> dict[str, Any]:
    """RFC 9457 problem details; `type` is a URN of the reason, so that no host is named."""
    problem: dict[str, Any] = {
        "type": f"urn:safescale:error:{error.reason.lower()}",
        "title": error.reason.replace("_", " ").capitalize(),
        "status": HTTP_STATUS[error.code],
        "detail": error.message,
        "reason": error.reason,
        "retryable": error.retryable,
    }
    if error.details:
        problem["details"] = dict(error.details)
    defects = getattr(error, "defects", ())
    if defects:
        problem["defects"] = [str(defect) for defect in defects]
    return problem


def to_headers(error: SafescaleError) -> dict[str, str]:
    """Headers of a dead letter."""
    return {
        "error-code": error.code,
        "error-reason": error.reason,
        "error-message": error.message,
        "error-retryable": "true" if error.retryable else "false",
    }
