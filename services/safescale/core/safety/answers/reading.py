"""The readings: by which rules a letter is read out of an answer before any judge is asked (protocol §4.1)."""

from collections.abc import Mapping

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.explicit import EXPLICIT_VERSION, parse_explicit
from safescale.core.safety.answers.judge import READING_VERSION
from safescale.core.safety.answers.parsing import parse_letter

STRICT, EXPLICIT = "strict", "explicit"
READINGS = (STRICT, EXPLICIT)


def reading_name(stated: str) -> str:
    """Return the name of a reading; whatever states none, as all that is older than the explicit one, is read strictly.

    Raises InvalidInputError for a name that there is not.
    """
    if stated and stated not in READINGS:
        raise InvalidInputError(f"reading {stated!r}: expected {' or '.join(READINGS)}")
    return stated or STRICT


def reading_version(stated: str) -> str:
    """Return the version of a reading's rules, the guards of the judge included; that of the strict one is a number."""
    return READING_VERSION if reading_name(stated) == STRICT else f"{READING_VERSION}-explicit-{EXPLICIT_VERSION}"


def read_letter(text: str, options: Mapping[str, str], stated: str) -> str | None:
    """Return the letter that a reading finds in an answer, else None.

    Raises InvalidInputError for a reading that there is not.
    """
    return parse_letter(text, options) if reading_name(stated) == STRICT else parse_explicit(text, options)
