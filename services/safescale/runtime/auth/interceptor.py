"""Puts the guard and the audit log before every method of a gRPC server."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory

from safescale.core.errors import PeerRefusedError, PermissionDeniedError, SafescaleError, UnauthenticatedError
from safescale.runtime.auth.audit import Audit
from safescale.runtime.auth.caller import called_by
from safescale.runtime.auth.guard import Guard
from safescale.runtime.auth.roles import ANONYMOUS, OPEN, Identity
from safescale.runtime.grpc.handlers import Continuation, rewrapped
from safescale.runtime.log import get_logger

Context = grpc.aio.ServicerContext[Any, Any]

CHECK = "x-safescale-check"
"""Key of metadata of a call that only asks whether it would be let in: `write` before a write, else `read`.

It is answered with an empty message and does nothing. So a gateway knows before it reads a body of many megabytes.
"""

_REFUSALS = (UnauthenticatedError, PermissionDeniedError, PeerRefusedError)


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

    async def _admit(self, method: str, context: Context, request: Any = None) -> Identity:
        if self._guard is None:
            called_by(ANONYMOUS)
            return ANONYMOUS
        metadata = context.invocation_metadata() or ()
        try:
            identity = await self._guard.admit(method, metadata)
        except SafescaleError as error:
            # The text about a refused token is ours; the token itself is never in it.
            get_logger("auth").warning("call refused", method=method, code=error.code, reason=error.message[:400])
            found = dict(metadata)
            if self._audit is not None and isinstance(error, _REFUSALS) and found.get(CHECK, "write") == "write":
                await self._audit.refused((method, request), await self._guard.name_of(metadata), error, found)
            raise
        called_by(identity)
        return identity

    def _one(self, behaviour: Any, method: str) -> Any:
        async def call(request: Any, context: Context) -> Any:
            identity = await self._admit(method, context, request)
            metadata = dict(context.invocation_metadata() or ())
            if CHECK in metadata:
                return _nothing(method)
            if self._audit is None:
                return await behaviour(request, context)
            async with self._audit.record(method, request, identity, metadata) as entry:
                entry.response = await behaviour(request, context)
            return entry.response

        return call

    def _many(self, behaviour: Any, method: str) -> Any:
        # No method that answers with a stream changes anything, so that there is nothing to record.
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            await self._admit(method, context, request)
            if CHECK in dict(context.invocation_metadata() or ()):
                return
            async for response in behaviour(request, context):
                yield response

        return call


def _nothing(method: str) -> Any:
    """Return an empty response of a method."""
    found = descriptor_pool.Default().FindMethodByName(method.removeprefix("/").replace("/", "."))
    return message_factory.GetMessageClass(found.output_type)()
