"""What is around every request: its id, its time, headers that keep browsers careful, and an answer for each error."""

import re
import time
import uuid
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from safescale.core.errors import SafescaleError, UnauthenticatedError
from safescale.gateway.config import GatewayConfig
from safescale.gateway.http.problem import HttpError, http_problem, problem_of, response_of
from safescale.runtime.addresses import host_of, is_address, is_loopback
from safescale.runtime.errors import as_safescale_error
from safescale.runtime.log import get_logger
from safescale.runtime.tracing import TRACEPARENT

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
PROBES = ("/healthz", "/readyz")
"""Paths of the liveness and readiness probes, open to any caller and host name."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Put on each response that does not set them itself. Results can concern patients, so no cache keeps them."""


SCOPE_ID = "safescale.request_id"
"""Where a request's scope holds its id."""


def request_id_of(scope: Scope) -> str:
    """Return the id of a request; empty outside of the middleware."""
    return str(scope.get(SCOPE_ID, ""))


def error_response(error: Exception) -> Response:
    """Return the problem of any error; one about the token says how to send one."""
    if isinstance(error, HttpError):
        return response_of(http_problem(error), error.headers)
    known = as_safescale_error(error)
    headers = {"WWW-Authenticate": 'Bearer realm="safescale"'} if isinstance(known, UnauthenticatedError) else {}
    return response_of(problem_of(known), headers)


@dataclass
class _Exchange:
    """One request and how far its answer is."""

    request_id: str
    begin: float = field(default_factory=time.perf_counter)
    status: int = 0
    complete: bool = False


class RequestMiddleware:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, config: GatewayConfig) -> None:
        self._app = app
        self._config = config
        self._in_flight = 0
        self._log = get_logger("gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        exchange = _Exchange(given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
        scope[SCOPE_ID] = exchange.request_id

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                found = MutableHeaders(scope=message)
                found["X-Request-Id"] = exchange.request_id
                for name, value in HEADERS.items():
                    found.setdefault(name, value)
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                exchange.complete = True
            await send(message)

        self._in_flight += 1
        try:
            self._refuse_at_once(scope, headers)
            with self._config.telemetry.serving(scope["method"], headers.get(TRACEPARENT, "")):
                await self._app(scope, receive, answer)
        except Exception as error:
            await self._fail(error, exchange, (scope, receive, answer))
        finally:
            self._in_flight -= 1
            self._record(scope, exchange)

    def _refuse_at_once(self, scope: Scope, headers: Headers) -> None:
        if scope["path"] not in PROBES and not self._is_ours(host_of(headers.get("host", ""))):
            detail = (
                f"the request is for the host {headers.get('host', '')[:200]!r}; expected localhost, or a name in "
                "SAFESCALE_ALLOWED_HOSTS"
            )
            raise HttpError(421, "UNKNOWN_HOST", detail)
        if scope["path"] in ("/healthz", "/readyz", "/metrics"):
            return
        if self._in_flight > self._config.limits.requests:
            detail = f"{self._config.limits.requests} requests are being answered; try again"
            raise HttpError(503, "OVERLOADED", detail, retryable=True)
        origin = headers.get("origin")
        if scope["method"] not in SAFE_METHODS and origin is not None and not self._may_write(origin, headers):
            detail = "the request comes from a page of another origin, which may not change anything here"
            raise HttpError(403, "FOREIGN_ORIGIN", detail)

    def _is_ours(self, host: str) -> bool:
        # A page may have its own name resolve to this address: then its browser takes the gateway for its own server,
        # and only the name in the request gives that away. An address cannot be made to point elsewhere.
        if is_loopback(host) or host in self._config.allowed_hosts:
            return True
        if is_loopback(self._config.host):
            return False
        return not self._config.allowed_hosts or is_address(host)

    def _may_write(self, origin: str, headers: Headers) -> bool:
        # A browser sends Origin with every writing request; a page of elsewhere must not drive a gateway on loopback.
        try:
            own = urlsplit(origin).netloc
        except ValueError:
            return False
        return origin in self._config.cors_origins or own == headers.get("host")

    async def _fail(self, error: Exception, exchange: _Exchange, triple: tuple[Scope, Receive, Send]) -> None:
        known = error if isinstance(error, HttpError) else as_safescale_error(error)
        if known.reason == "INTERNAL":
            self._log.error(
                "request failed",
                request_id=exchange.request_id,
                exception_type=type(error).__name__,
                where=_where(error),
            )
        if not exchange.status:
            await error_response(error)(*triple)
        else:
            # The status is sent already. Ending without the last chunk has the server cut the connection, so that no
            # reader takes a part for the whole.
            reason = known.reason if isinstance(known, SafescaleError) else "HTTP"
            self._log.warning("answer cut", request_id=exchange.request_id, reason=reason)

    def _record(self, scope: Scope, exchange: _Exchange) -> None:
        elapsed = time.perf_counter() - exchange.begin
        method = scope["method"] if scope["method"] in METHODS else "other"
        labels = {"method": method, "route": route_of(scope), "status": str(exchange.status)}
        self._config.telemetry.observe("safescale_http_seconds", elapsed, labels)
        self._log.info(
            "request",
            request_id=exchange.request_id,
            method=method,
            route=labels["route"],
            status=exchange.status,
            elapsed_s=round(elapsed, 4),
        )


def route_of(scope: Scope) -> str:
    """Template of the route that answered, so that ids neither reach a log line nor multiply a metric."""
    return str(getattr(scope.get("route"), "path_format", "none"))


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
