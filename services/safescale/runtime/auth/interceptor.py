"""Puts the guard and the audit log before every method of a gRPC server."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from safescale.core.errors import SafescaleError
from safescale.runtime.auth.audit import Audit
from safescale.runtime.auth.guard import Guard
from safescale.runtime.auth.roles import ANONYMOUS, OPEN, Identity
from safescale.runtime.handlers import Continuation, rewrapped
from safescale.runtime.log import get_logger

Context = grpc.aio.ServicerContext[Any, Any]


class GuardInterceptor(grpc.aio.ServerInterceptor):
    """Asks the guard before a handler runs, and records writes. Its errors are raised within the call."""

    def __init__(self, guard: Guard | None, audit: Audit | None) -> None:
        self._guard = guard
        self._audit = audit

    async def intercept_service(self, continuation: Continuation, handler_call_details: Any) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(OPEN):
            return handler
        return rewrapped(handler, lambda one: self._one(one, method), lambda many: self._many(many, method))

    async def _admit(self, method: str, context: Context) -> Identity:
        if self._guard is None:
            return ANONYMOUS
        try:
            return await self._guard.admit(method, context.invocation_metadata() or ())
        except SafescaleError as error:
            # What is said of a refused token is ours; the token itself is never in it.
            get_logger("auth").warning("call refused", method=method, code=error.code, reason=error.message[:400])
            raise

    def _one(self, behaviour: Any, method: str) -> Any:
        async def call(request: Any, context: Context) -> Any:
            identity = await self._admit(method, context)
            if self._audit is None:
                return await behaviour(request, context)
            metadata = dict(context.invocation_metadata() or ())
            async with self._audit.record(method, request, identity, metadata) as entry:
                entry.response = await behaviour(request, context)
            return entry.response

        return call

    def _many(self, behaviour: Any, method: str) -> Any:
        # No method that answers with a stream changes anything, so that there is nothing to record.
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            await self._admit(method, context)
            async for response in behaviour(request, context):
                yield response

        return call
