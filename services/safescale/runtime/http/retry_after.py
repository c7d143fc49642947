"""The Retry-After header (RFC 9110, section 10.2.3): a number of seconds, or the date when to ask again."""

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_SECONDS = 3600.0
"""Longest wait that is believed; a server that asks for more is asked again after an hour."""

# Some servers give a fraction, which the RFC does not have.
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that a server asks to wait, 0 to `MAX_SECONDS`; None without a readable header.

    Names of headers may be in any case. `now` is the time that a date is measured from, in seconds since the epoch.
    """
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_SECONDS)
    date = _timestamp(value)
    if date is None:
        return None
    return min(max(date - (time.time() if now is None else now), 0.0), MAX_SECONDS)


def _timestamp(value: str) -> float | None:
    """Return the time of an HTTP date in any of its three forms, in seconds since the epoch; None for other texts."""
    try:
        date = parsedate_to_datetime(value)
        # The form of asctime names no zone; HTTP dates are always in GMT.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
