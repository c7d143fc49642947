"""Who answers under an id of the catalog: the revision of the weights, and a fingerprint of all else that decides."""

import json
from dataclasses import dataclass

from safescale.core.errors import ModelChangedError
from safescale.inference.backends.port import Capabilities
from safescale.inference.catalog import ModelRow


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Revision and fingerprint of what answers; as an expectation, an empty text stands for any."""

    revision: str = ""
    fingerprint: str = ""


def identity_of(row: ModelRow, revision: str, capabilities: Capabilities) -> ModelIdentity:
    """Return the identity of a row whose backend has given its revision."""
    return ModelIdentity(revision, fingerprint_of(row, capabilities))


def fingerprint_of(row: ModelRow, capabilities: Capabilities) -> str:
    """Return what decides the answers of a row beside the weights, as one line that a person can compare.

    The server's part (program, version, context) is its backend's. Of the row it holds what changes how the server is
    asked or what is taken of its text: kind of backend, name of the model there, instruct or not, trace delimiters.
    Where the server is, how often and how long it is asked, and what it costs change no answer.
    """
    facts = {
        "backend": row.backend,
        "server": capabilities.fingerprint,
        "served_model": served_name(row),
        "instruct": row.instruct,
        "reasoning": row.reasoning or "",
    }
    return " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in facts.items())


def served_name(row: ModelRow) -> str:
    """Return the name of a row's model at its server; empty for one in this process."""
    return row.served_model if row.endpoint else ""


def check_expected(model: str, expected: ModelIdentity, found: ModelIdentity) -> None:
    """Compare what answers with what is expected, in what the expectation states.

    Raises:
        ModelChangedError: it is another; the message names both.

    """
    pairs = (
        ("revision", expected.revision, found.revision),
        ("fingerprint", expected.fingerprint, found.fingerprint),
    )
    for name, wanted, got in pairs:
        if wanted and wanted != got:
            raise ModelChangedError(
                f"{model} answers with {name} {got or 'unknown'}; expected {wanted}",
                details={"model": model, f"expected_{name}": wanted, f"found_{name}": got},
            )


def check_unchanged(model: str, before: ModelIdentity, after: ModelIdentity) -> None:
    """Compare what was found before a call with what was found after it.

    Raises:
        ModelChangedError: answers of the call may be of either.

    """
    if before != after:
        name = "revision" if before.revision != after.revision else "fingerprint"
        raise ModelChangedError(
            f"{model} changed while it was asked, from {name} {getattr(before, name)} to {getattr(after, name)}; "
            "its answers may be of either"
        )
