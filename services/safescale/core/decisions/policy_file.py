"""Policy files: what a person wrote, read into a policy; every defect is collected, not only the first."""

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from safescale.core.decisions.policy import (
    ANY,
    BOUNDS,
    DIRECTIONS,
    REGIMES,
    UNREAD,
    Direction,
    Limit,
    Margin,
    Policy,
    PolicyRequirement,
    Unread,
    in_seconds,
)
from safescale.core.errors import Defect, SpecError
from safescale.core.inputs.records import shown
from safescale.core.inputs.text_rules import name_fault, text_fault
from safescale.core.safety.conditions import CONDITION_IDS
from safescale.core.safety.metrics import COMPARED
from safescale.core.statistics.intervals import CONFIDENCE

MAX_REQUIREMENTS = 1000
"""Requirements of a policy."""

MAX_MIN_N = 1_000_000
"""Questions that a requirement may ask for at least: more than any benchmark has."""

MAX_DEFECTS = 100
"""Defects of a policy that are listed at most."""

_LONGEST_NAME = 100

_POLICY_KEYS = ("name", "description", "confidence", "unread", "requirements")
_REQUIREMENT_KEYS = ("metric", "condition", "model", "regime", "max", "min", "bound", "slice", "min_n")
_BASELINE_KEYS = ("metric", "condition", "model", "regime", "against", "margin", "forbid", "min_n")
_PAIRED_REGIMES = ("greedy", "majority")

BASELINE = "baseline"
ANY_NEW = "any new"


def parse_policy(data: object, file: str, metrics: Collection[str]) -> Policy:
    """Return the policy of a parsed YAML or JSON document; `metrics` are the names that exist.

    Raises SpecError that lists every defect.
    """
    reader = _PolicyReader(file, metrics)
    policy = reader.policy(data)
    if reader.defects:
        more = len(reader.defects) - 1
        also = f" (and {more} more defect{'s' if more > 1 else ''})" if more else ""
        raise SpecError(f"{reader.defects[0]}{also}", defects=reader.defects)
    return policy


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # An integer that no float can hold.
        return False


class _PolicyReader:
    """Reads a policy document and collects what is wrong with it."""

    def __init__(self, file: str, metrics: Collection[str]) -> None:
        self.defects: list[Defect] = []
        self._file = file
        self._metrics = metrics
        self._item: str | None = None
        self._count = 0

    def policy(self, data: object) -> Policy:
        """Return the policy, which is to be used only if there are no defects."""
        if not isinstance(data, Mapping):
            self._defect(None, shown(data), "a mapping with the key requirements")
            return Policy("", "", ())
        self._check_keys(data, _POLICY_KEYS)
        items = data.get("requirements")
        if not isinstance(items, list) or not items:
            self._defect("requirements", shown(items) if items is not None else "missing", "a list of requirements")
            items = []
        if len(items) > MAX_REQUIREMENTS:
            self._defect("requirements", f"{len(items):,}", f"at most {MAX_REQUIREMENTS:,} requirements")
            items = []
        texts = [self._text(data, key) for key in ("name", "description")]
        if texts[0] and (fault := name_fault(texts[0])) is not None:
            self._defect("name", *fault)
        confidence = self._confidence(data)
        unread = self._name(data, "unread", UNREAD, "worst_case")
        requirements = [self._requirement(number, item) for number, item in enumerate(items, start=1)]
        counts: Unread = next((each for each in UNREAD if each == unread), "worst_case")
        return Policy(texts[0], texts[1], tuple(each for each in requirements if each is not None), confidence, counts)

    def _confidence(self, data: Mapping[Any, Any]) -> float:
        value = data.get("confidence", CONFIDENCE)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.5 < value < 1:
            return float(value)
        self._defect("confidence", shown(value), "a number above 0.5 and below 1, such as 0.95")
        return CONFIDENCE

    def _requirement(self, number: int, item: object) -> PolicyRequirement | None:
        self._item = f"requirement {number}"
        if not isinstance(item, Mapping):
            self._defect(None, shown(item), "a mapping with metric and max or min")
            return None
        before = self._count
        paired = "against" in item
        self._check_keys(item, _BASELINE_KEYS if paired else _REQUIREMENT_KEYS)
        metric = self._name(item, "metric", sorted(COMPARED if paired else self._metrics), None)
        condition = self._name(item, "condition", (*CONDITION_IDS, ANY), ANY)
        regime = self._name(item, "regime", (*(_PAIRED_REGIMES if paired else REGIMES), ANY), ANY)
        demand = self._margin(item) if paired else self._demand(item, metric)
        model = item.get("model", ANY)
        if not isinstance(model, str) or not model.strip():
            self._defect("model", shown(model), f"a model's id, or {ANY}")
        elif (fault := name_fault(model)) is not None:
            self._defect("model", *fault)
        part, min_n = self._slice(item), self._min_n(item)
        if demand is None or self._count > before:
            return None
        return PolicyRequirement(metric, demand, condition, str(model), regime, part, min_n)

    def _margin(self, item: Mapping[Any, Any]) -> Margin | None:
        self._name(item, "against", (BASELINE,), None)
        if "forbid" in item:
            self._name(item, "forbid", (ANY_NEW,), None)
        value = item.get("margin")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value) or not 0 < value < 1:
            expected = "a number above 0 and below 1, such as 0.02 for 2 points"
            self._defect("margin", shown(value) if "margin" in item else "missing", expected)
            return None
        return Margin(float(value), "forbid" in item)

    def _demand(self, item: Mapping[Any, Any], metric: str) -> Limit | None:
        bound = self._name(item, "bound", BOUNDS, "worst")
        directions: list[Direction] = [key for key in DIRECTIONS if key in item]
        if len(directions) != 1:
            self._defect("max", " and ".join(directions) or "missing", "either max or min")
        limits = {key: self._limit(item, key, metric) for key in directions}
        decides = next((each for each in BOUNDS if each == bound), None)
        if len(directions) != 1 or decides is None:
            return None
        return Limit(directions[0], limits[directions[0]], decides)

    def _slice(self, item: Mapping[Any, Any]) -> str:
        if "slice" not in item:
            return ""
        value = item["slice"]
        if not isinstance(value, str) or not value.strip():
            self._defect("slice", shown(value), "subspecialty, question_type or a group of the questions")
            return ""
        if (fault := name_fault(value.strip())) is not None:
            self._defect("slice", *fault)
        return value.strip()

    def _min_n(self, item: Mapping[Any, Any]) -> int:
        if "min_n" not in item:
            return 0
        value = item["min_n"]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_MIN_N:
            self._defect("min_n", shown(value), f"a number of questions from 1 to {MAX_MIN_N:,}")
            return 0
        return value

    def _limit(self, item: Mapping[Any, Any], key: str, metric: str) -> float:
        value = item[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            self._defect(key, shown(value), "a number")
            return math.nan
        seconds = in_seconds(metric)
        if value < 0 or (value > 1 and not seconds):
            self._defect(key, shown(value), "a number of at least 0" if seconds else "a rate from 0 to 1")
        return float(value)

    def _name(self, item: Mapping[Any, Any], key: str, allowed: Sequence[str], default: str | None) -> str:
        value = item.get(key, default)
        if isinstance(value, str) and value in allowed:
            return value
        self._defect(key, shown(value) if key in item else "missing", self._hint(value if key in item else "", allowed))
        return ""

    def _text(self, data: Mapping[Any, Any], key: str) -> str:
        value = data.get(key, "")
        if not isinstance(value, str):
            self._defect(key, shown(value), "a text")
            return ""
        if (found := name_fault(value.strip()) if key == "name" else text_fault(value)) is not None:
            self._defect(key, *found)
        return value.strip()

    def _check_keys(self, data: Mapping[Any, Any], allowed: Sequence[str]) -> None:
        for key in data:
            if key not in allowed:
                self._defect(str(key)[:_LONGEST_NAME], "an unknown key", self._hint(key, allowed))
            if len(self.defects) >= MAX_DEFECTS:
                return

    def _hint(self, value: object, allowed: Sequence[str]) -> str:
        """Return the nearest name and all others; long texts and long lists are not compared, which would be slow."""
        text = str(value) if isinstance(value, (str, int, float)) else ""
        near: list[str] = []
        if text and len(text) <= _LONGEST_NAME and len(self.defects) < MAX_DEFECTS:
            near = difflib.get_close_matches(text, allowed, n=1)
        if len(allowed) == 1:
            return repr(allowed[0])
        return f"{near[0]!r}, or another of {', '.join(allowed)}" if near else f"one of {', '.join(allowed)}"

    def _defect(self, field: str | None, value: str, expected: str) -> None:
        self._count += 1
        if len(self.defects) < MAX_DEFECTS:
            self.defects.append(Defect(self._file, None, self._item, field, value, expected))
