"""HTML documents: how templates are read, what they write of a text, and times in words."""

from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from safescale.core.inputs.text import visible


def environment() -> Environment:
    """Return where the templates of reports are: everything that is no markup of ours is escaped."""
    return Environment(
        loader=PackageLoader("safescale.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )


def _seen(value: object) -> object:
    """Return what the template writes of a value; markup is ours, any other text may be anybody's."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def moment(when: datetime) -> str:
    """Return a time to the minute, in UTC; one without zone is taken as UTC."""
    known = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return known.strftime("%Y-%m-%d %H:%M UTC")
