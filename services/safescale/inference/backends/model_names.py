"""Whether an answer comes from the model that was asked, judged by the name that it carries.

Servers answer under other names than they were called by, and rightly so: vLLM under the first of its names for a
model, hosted ones under that of the dated snapshot, others under the path of the weights. The rule for what is the same
model is stated at `ModelNames.accepts`; every other name is another model.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safescale.core.errors import AnotherModelError

_SNAPSHOT = re.compile(r"(?:[-@:](?:latest|\d{4}-\d{2}-\d{2}|\d{8}|\d{3,4}))$")
_FILE = re.compile(r"\.(?:gguf|safetensors|bin)$")
SHOWN = 200
"""Characters of a name that an error shows."""


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The name that a model is asked by, others that its server lists for the same model, and those of other models.

    `statable`: whether the row can state further ones (answers_as).
    """

    asked: str
    same: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    statable: bool = True

    def accepts(self, answered: str) -> bool:
        """Return whether a model that answers by this name is the one that was asked. In this order, ignoring case:

        - no name at all, the name asked, another that the server lists for the same model: yes;
        - the same name with or without a date, a number of a snapshot or `latest` at its end (`gpt-4o` and
          `gpt-4o-2024-08-06`), unless both bear a date and the dates differ: yes;
        - the name of another model that the server lists: no;
        - the same last part of a path, an ending of a file aside (`/models/Qwen3-32B.gguf`): yes.
        """
        told = answered.strip().casefold()
        mine = {name.casefold() for name in (self.asked, *self.same)}
        if not told or told in mine or any(_same_stem(told, name) for name in mine):
            return True
        if told in {name.casefold() for name in self.others}:
            return False
        return any(_same_stem(_last(told), _last(name)) for name in mine)

    def check(self, model: str, *answered: str) -> None:
        """Refuse the answer of another model.

        Raises:
            AnotherModelError: it names both.

        """
        for name in answered:
            if self.accepts(name):
                continue
            hint = "; if it is the same, name it in answers_as" if self.statable else ""
            raise AnotherModelError(
                f"the server of {model} was asked for {self.asked[:SHOWN]!r} and answered as {name[:SHOWN]!r}: "
                f"another model, such as a router's fallback{hint}"
            )


def names_of(asked: str, models: Sequence[Mapping[str, Any]], also: Sequence[str] = ()) -> ModelNames:
    """Return names by a server's list of models, where the same root (the weights) is one model, and those stated."""
    mine = listed(models, asked)
    root = mine.get("root")
    same: set[str] = set(also)
    for model in models:
        if model is mine or (isinstance(root, str) and root and model.get("root") == root):
            same.update(name for name in (model.get("id"), model.get("root"), *_aliases(model)) if name)
    others = {name for model in models for name in (model.get("id"), *_aliases(model)) if name} - same
    parent = mine.get("parent")
    if isinstance(parent, str) and parent not in others:
        same.add(parent)
    return ModelNames(asked, frozenset(map(str, same)), frozenset(map(str, others)))


def listed(models: Sequence[Mapping[str, Any]], asked: str) -> Mapping[str, Any]:
    """Return the entry of a server's list for a model requested by this name, empty where there is none.

    Its id, one of its aliases, or its id without the `:latest` that Ollama adds to a name.
    """
    for name in (asked, f"{asked}:latest"):
        if mine := next((model for model in models if name in names_in(model)), None):
            return mine
    return {}


def names_in(model: Mapping[str, Any]) -> list[str]:
    """Return the id and aliases of an entry of a server's list."""
    return [str(model.get("id")), *_aliases(model)]


def tgi_names(asked: str, *models: str) -> ModelNames:
    """Return names at TGI, which answers by the name of the adapter requested, or the model's own without one."""
    return ModelNames(asked, frozenset({*models, "tgi"} - {""}) if asked == "tgi" else frozenset())


def _aliases(model: Mapping[str, Any]) -> list[str]:
    aliases = model.get("aliases")
    return [alias for alias in aliases if isinstance(alias, str)] if isinstance(aliases, list) else []


def _same_stem(one: str, other: str) -> bool:
    ends = [_SNAPSHOT.search(name) for name in (one, other)]
    stems = [name[: end.start()] if end else name for name, end in zip((one, other), ends, strict=True)]
    if stems[0] != stems[1] or not stems[0]:
        return False
    dates = {end[0][1:] for end in ends if end and end[0][1:] != "latest"}
    return len(dates) <= 1


def _last(name: str) -> str:
    return _FILE.sub("", name.replace("\\", "/").rstrip("/").rpartition("/")[2])
