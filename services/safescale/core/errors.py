"""The one error tree. Every error carries a gRPC code name, a stable reason and whether a retry can help.

SafescaleError
├── InvalidInputError            INVALID_ARGUMENT     the caller's mistake
│   ├── BenchmarkError                                defects of a benchmark file
│   ├── CorpusError                                   defects of a corpus file
│   ├── SpecError                                     defects of a run spec or a policy
│   └── PromptTooLongError                            a prompt over the model's window
├── UnauthenticatedError         UNAUTHENTICATED      nobody knows who calls
├── PermissionDeniedError        PERMISSION_DENIED    the caller lacks the role
├── NotFoundError                NOT_FOUND
├── AlreadyExistsError           ALREADY_EXISTS
├── FailedPreconditionError      FAILED_PRECONDITION
│   └── ModelChangedError                             another model, or server, answers than was expected
├── LimitExceededError           RESOURCE_EXHAUSTED
│   └── OutcomeTooLargeError                          a result over the limit of the message bus
├── StorageError                 INTERNAL             disk full, file unreadable, database damaged
├── AddressInUseError            FAILED_PRECONDITION
├── DependencyUnavailableError   UNAVAILABLE          retryable: what we need ourselves cannot be reached now
│   ├── ServiceUnavailableError                       another service of ours
│   ├── PeerRefusedError                              another service of ours refuses our own token
│   ├── StorageUnavailableError                       the store of records or chunks
│   └── BusUnavailableError                           the message bus
└── BackendError                 UNAVAILABLE          a model server's failure
    ├── BackendUnavailableError  retryable
    ├── BackendOverloadedError   retryable
    ├── BackendTimeoutError      DEADLINE_EXCEEDED, retryable
    ├── BackendRefusedError      INVALID_ARGUMENT     the server refused the request as such
    │   └── AnswerCutError                            it ended an answer before the tokens asked for
    ├── PromptCutError           DATA_LOSS            it read less of the prompt than was sent
    ├── AnotherModelError        FAILED_PRECONDITION  the answer names another model than was asked
    └── GarbageAnswerError       DATA_LOSS            an answer that is not of the protocol
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safescale.core.inputs.text import visible, visible_line


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect of an input: its place, what was found there, what was expected."""

    file: str
    line: int | None
    item: str | None
    field: str | None
    value: str
    expected: str

    def __str__(self) -> str:
        """One line for a terminal: `file:line: item field = value; expected ...`."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        what = " ".join(part for part in (self.item, self.field) if part)
        return visible_line(f"{place}: {what + ' = ' if what else ''}{self.value}; expected {self.expected}")


class SafescaleError(Exception):
    """Base of every error that a user or a caller may see.

    Its message goes to terminals, logs, problem details and records, and often quotes what somebody sent: it holds
    nothing that no reader can see.
    """

    code: str = "INTERNAL"
    reason: str = "INTERNAL"
    retryable: bool = False

    def __init__(self, message: str, *, details: Mapping[str, str] | None = None) -> None:
        self.message = visible(message)
        super().__init__(self.message)
        self.details: dict[str, str] = {name: visible(text) for name, text in (details or {}).items()}


class InvalidInputError(SafescaleError):
    """The caller's mistake; the message says what was expected."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_INPUT"

    def __init__(
        self, message: str, *, details: Mapping[str, str] | None = None, defects: Sequence[Defect] = ()
    ) -> None:
        super().__init__(message, details=details)
        self.defects: tuple[Defect, ...] = tuple(defects)


class BenchmarkError(InvalidInputError):
    """A benchmark that cannot be used; `defects` lists every one found."""

    reason = "INVALID_BENCHMARK"


class CorpusError(InvalidInputError):
    """A corpus that cannot be used; `defects` lists every one found."""

    reason = "INVALID_CORPUS"


class SpecError(InvalidInputError):
    """A run spec or policy that cannot be used; `defects` lists every one found."""

    reason = "INVALID_SPEC"


class PromptTooLongError(InvalidInputError):
    """A prompt with more tokens than the model's window leaves for it."""

    reason = "PROMPT_TOO_LONG"


class UnauthenticatedError(SafescaleError):
    """No token was given, or an unknown one. The message never holds the token."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class PermissionDeniedError(SafescaleError):
    """The caller is known and lacks the role; the message names the role that is needed."""

    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class NotFoundError(SafescaleError):
    """The named thing does not exist."""

    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class AlreadyExistsError(SafescaleError):
    """Something else is already stored under that name."""

    code = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class FailedPreconditionError(SafescaleError):
    """The request is right, the state of the system does not allow it."""

    code = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class ModelChangedError(FailedPreconditionError):
    """The weights or the server behind a catalog id are not those expected; the message names both."""

    reason = "MODEL_CHANGED"


class LimitExceededError(SafescaleError):
    """A stated limit (size, count, tokens) is exceeded; the message names the limit."""

    code = "RESOURCE_EXHAUSTED"
    reason = "LIMIT_EXCEEDED"


class OutcomeTooLargeError(LimitExceededError):
    """What a cell came to does not fit into a message of the bus; asked in another way it may."""

    reason = "OUTCOME_TOO_LARGE"


class StorageError(SafescaleError):
    """Records could not be read or written: disk full, permission, damaged file."""

    code = "INTERNAL"
    reason = "STORAGE_FAILED"


class AddressInUseError(FailedPreconditionError):
    """The address to listen on is taken or not ours."""

    reason = "ADDRESS_IN_USE"


class DependencyUnavailableError(SafescaleError):
    """Something that this process needs cannot be reached now. It says nothing about the work itself.

    So it is never the outcome of a cell: the message of the work stays with the bus until the dependency is back.
    """

    code = "UNAVAILABLE"
    reason = "DEPENDENCY_UNAVAILABLE"
    retryable = True


class ServiceUnavailableError(DependencyUnavailableError):
    """Another service of this system cannot be reached."""

    reason = "SERVICE_UNAVAILABLE"


class PeerRefusedError(DependencyUnavailableError):
    """Another service of this system refuses this one's own token: a matter of the installation, not of the work."""

    reason = "PEER_REFUSED"


class StorageUnavailableError(DependencyUnavailableError):
    """The store cannot be reached, or refuses work for now."""

    reason = "STORAGE_UNAVAILABLE"


class BusUnavailableError(DependencyUnavailableError):
    """The message bus cannot be reached."""

    reason = "BUS_UNAVAILABLE"


class BackendError(SafescaleError):
    """A model server failed; not worth another try."""

    code = "UNAVAILABLE"
    reason = "BACKEND_FAILED"


class BackendUnavailableError(BackendError):
    """A model server could not be reached or is not ready."""

    reason = "BACKEND_UNAVAILABLE"
    retryable = True


class BackendOverloadedError(BackendError):
    """A model server said that it has too much to do."""

    code = "RESOURCE_EXHAUSTED"
    reason = "BACKEND_OVERLOADED"
    retryable = True


class BackendTimeoutError(BackendError):
    """A model server did not answer within the deadline."""

    code = "DEADLINE_EXCEEDED"
    reason = "BACKEND_TIMEOUT"
    retryable = True


class BackendRefusedError(BackendError):
    """A model server refused the request as such (validation)."""

    code = "INVALID_ARGUMENT"
    reason = "BACKEND_REFUSED"


class AnswerCutError(BackendRefusedError):
    """A model server ended an answer by its length before the tokens asked for: it is not the answer."""

    reason = "ANSWER_CUT"


class PromptCutError(BackendError):
    """A model server read less of the prompt than was sent; the message names both counts."""

    code = "DATA_LOSS"
    reason = "PROMPT_CUT"


class AnotherModelError(BackendError):
    """The answer names another model than the one asked; the message names both."""

    code = "FAILED_PRECONDITION"
    reason = "ANOTHER_MODEL_ANSWERED"


class GarbageAnswerError(BackendError):
    """A model server answered something that is not of its protocol."""

    code = "DATA_LOSS"
    reason = "GARBAGE_ANSWER"
