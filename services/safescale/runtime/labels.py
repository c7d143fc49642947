"""What the labels of metrics may hold: each has a source and a bound, so that no caller can make endless series.

Every value is checked here: whatever a service passes on, such as the name of an unknown model or
a reason that a server made up, is shown as `other` or `unknown` unless it is expected.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from safescale.core.inputs.text_rules import MAX_NAME
from safescale.runtime.auth.roles import METHODS

OTHER = "other"
"""Shown instead of a value over the bound of its label, or one that is not among its values."""

UNKNOWN = "unknown"
"""Shown instead of a name that a process does not know, where it knows all names."""

LONGEST = MAX_NAME
"""Characters of a value."""

# With the characters of an address: brackets of IPv6, and those of a path.
_WORD = re.compile(r"[A-Za-z0-9_.:/{}\[\]~%+@=,-]*")

HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
STATES = ("planned", "completed", "failed", "skipped")
VERDICTS = ("pass", "fail", "insufficient")


@dataclass(frozen=True, slots=True)
class Label:
    """A label: where its values come from, and how many of them a metric shows at once.

    `values` are all that there are, None where that is known only while it runs. `word` says that values are words of
    programs, without spaces.
    """

    source: str
    most: int
    values: frozenset[str] | None = None
    word: bool = True


def one_of(source: str, values: Iterable[str]) -> Label:
    """Return a label whose values are all known beforehand."""
    found = frozenset(values)
    return Label(source, len(found), found)


LABELS: Mapping[str, Label] = {
    "model": Label("ids of the catalog, and of the manifests of runs", 1000),
    "condition": Label("conditions of cells, and rpc for calls of no cell", 100),
    "outcome": Label("ok, words of the code, reasons of the error tree", 100),
    "reason": Label("reasons of the error tree", 100),
    "kind": Label("words of the code", 20),
    "step": Label("steps of the research agent", 20),
    "state": one_of("states of cells in the progress of a run", STATES),
    "policy": Label("names of policies judged last; dropped when others are", 200, word=False),
    "verdict": one_of("verdicts of policies", VERDICTS),
    "name": Label("names of runs with the newest results; dropped when others are", 200, word=False),
    "series": Label("names of series with the newest runs; dropped when others are", 100, word=False),
    "regime": Label("words of the code", 10),
    "metric": Label("words of the code", 20),
    "run_id": Label("ids of runs that are driven; dropped when they end", 500),
    "topic": Label("topics of the bus", 50),
    "group": Label("consumer groups of the services", 50),
    "replica": Label("addresses of model servers in the catalog", 500),
    "operation": Label("words of the code", 50),
    "dependency": Label("words of the code", 10),
    "method": one_of(
        "methods of the protos and of HTTP", (*(name.rsplit("/", 1)[-1] for name in METHODS), *HTTP_METHODS)
    ),
    "route": Label("templates of the gateway's routes", 100),
    "status": Label("HTTP status codes", 70),
    "service": one_of("services of the protos", (name.split("/")[1] for name in METHODS)),
    "code": Label("gRPC status codes", 20),
}
"""Every label of every metric; a name means the same in all of them. `app` gives the values that the domain defines."""


class LabelBounds:
    """Which value of a label is shown, by the values that each metric shows already."""

    def __init__(self, labels: Mapping[str, Label] = LABELS) -> None:
        self._labels = labels
        self._known: dict[str, set[str]] = {}
        self._shown: dict[tuple[str, str], set[str]] = {}

    def know(self, label: str, values: Iterable[str]) -> None:
        """Add to the names that the process knows for a label; from the first call on, others are `unknown`."""
        known = self._known.setdefault(label, set())
        for value in values:
            if len(known) < self._labels[label].most:
                known.add(value)

    def shown(self, metric: str, labels: Mapping[str, str]) -> dict[str, str]:
        """Return the values shown for the labels of a metric; new values are counted."""
        found = {label: self._value(metric, label, value) for label, value in labels.items()}
        for label, value in found.items():
            self._shown.setdefault((metric, label), set()).add(value)
        return found

    def _value(self, metric: str, label: str, value: str) -> str:
        declared = self._labels[label]
        if value in (OTHER, UNKNOWN):
            return value
        if declared.values is not None:
            return value if value in declared.values else OTHER
        known = self._known.get(label)
        if known is not None and value not in known:
            return UNKNOWN
        if len(value) > LONGEST or not value.isprintable() or (declared.word and not _WORD.fullmatch(value)):
            return OTHER
        held = self._shown.get((metric, label), set())
        return value if value in held or len(held - {OTHER, UNKNOWN}) < declared.most else OTHER

    def kept(self, metric: str, left: Collection[Mapping[str, str]]) -> None:
        """Count anew what a metric shows, by the labels of its series that are left."""
        for of_metric, label in list(self._shown):
            if of_metric == metric:
                self._shown[of_metric, label] = {labels[label] for labels in left if label in labels}
