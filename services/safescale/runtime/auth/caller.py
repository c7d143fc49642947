"""Who makes the call that is being answered, for handlers whose answer depends on it."""

from contextvars import ContextVar

from safescale.core.errors import PermissionDeniedError
from safescale.runtime.auth.roles import ANONYMOUS, Identity, Role

_CALLER: ContextVar[Identity] = ContextVar("caller", default=ANONYMOUS)
"""Each call is a task with a context of its own, so that what is set here is seen by its handler alone."""


def called_by(identity: Identity) -> None:
    """Set the caller of the current task, once the call is admitted."""
    _CALLER.set(identity)


def caller() -> Identity:
    """Return the caller of the current task: everybody where no credentials are required, and outside of calls."""
    return _CALLER.get()


def require(role: Role, what: str) -> None:
    """Let a caller pass who holds a role; `what` says what needs it.

    Raises:
        PermissionDeniedError: they do not hold it.

    """
    identity = caller()
    if role not in identity.roles:
        raise PermissionDeniedError(
            f"{what} needs the role {role}; {identity.name} does not hold it", details={"role": role}
        )
