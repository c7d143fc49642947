"""JSON logs with an allow-list of fields: questions, passages, prompts and answers never reach a log line."""

import contextlib
import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from safescale.core.errors import InvalidInputError
from safescale.runtime.tracing import sampled_trace_id

# fmt: off
ALLOWED_FIELDS = frozenset({
    "event", "level", "timestamp", "service", "version", "run_id", "model", "condition", "question_id", "cell_id",
    "research_id", "corpus_id", "benchmark_id", "context_id", "topic", "group", "attempt", "code", "reason",
    "retryable", "method", "address", "port", "elapsed_s", "count", "documents", "chunks", "cells", "tokens",
    "step", "state", "exception_type", "where", "kind", "in_flight", "signal", "revision",
    "dependency", "request_id", "route", "status", "trace_id", "replica", "open",
    "who", "policy", "policy_sha256", "passed", "verdict",
})
# fmt: on
"""Fields that a log line may have; any other is dropped and its name listed under `dropped`."""


def keep_allowed_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop each field that is not on the allow-list; its name alone is kept."""
    dropped = sorted(key for key in event if key not in ALLOWED_FIELDS)
    kept = {key: value for key, value in event.items() if key in ALLOWED_FIELDS}
    if dropped:
        kept["dropped"] = dropped
    return kept


def add_trace_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name the trace that the line belongs to, where one is recorded."""
    if trace_id := sampled_trace_id():
        event["trace_id"] = trace_id
    return event


class LineWriter:
    """Writes lines to a stream, standard error of the moment by default; a broken one loses the line, not the work."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write one line."""
        with contextlib.suppress(OSError, ValueError):
            print(line, file=self._stream or sys.stderr, flush=True)

    debug = info = warning = error = critical = msg


def configure_logging(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Write JSON lines to `stream` (standard error by default) from `level` on.

    Raises:
        InvalidInputError: an unknown level.

    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise InvalidInputError(
            f"SAFESCALE_LOG_LEVEL is {level!r}; expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL"
        )
    structlog.configure(
        processors=[
            merge_contextvars,
            add_trace_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            keep_allowed_fields,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: LineWriter(stream),
        cache_logger_on_first_use=False,
    )


def get_logger(service: str) -> FilteringBoundLogger:
    """Return the logger of a service. Fields beyond the allow-list are dropped."""
    logger: FilteringBoundLogger = structlog.get_logger(service=service)
    return logger


def log_context(**fields: Any) -> Any:
    """Return a context manager that adds fields (run_id, model, condition, question_id) to every line within."""
    return bound_contextvars(**fields)
