"""Each kind of document in Elasticsearch: its version, what is read without the rest, and how it is stored."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from safescale.core.errors import InvalidInputError, LimitExceededError, StorageError
from safescale.runtime.documents.port import Document, NewDocument

MAX_ID_BYTES = 512
"""Elasticsearch's bound on an id."""

MAX_KEY_BYTES = 8192
MAX_DOCUMENT_BYTES = 32 * 1024 * 1024
"""Largest document in bytes. Elasticsearch takes requests of 100 MB, and a tenth of its heap in writes at once."""

HASHED = "#"
"""Begin of an id that is a key's hash."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document.

    `version` is that of its index: raised when the mapping or `light` changes, then `safescale indices migrate` copies.
    A field that older bodies lack may join `light` without: their columns lack it as their bodies do, and so a grid of
    an older program goes on as it is.
    `page` is how many whole documents are read at once, so that their bytes stay within a few MB.
    `light` names top-level fields of the body that a scan can read without the rest, from a column of their own.
    """

    name: str
    version: int = 1
    page: int = 500
    light: tuple[str, ...] = ()


KINDS: tuple[Kind, ...] = (
    Kind("benchmark", page=5),
    Kind("run", page=50),
    Kind("research", page=20),
    Kind("corpus"),
    Kind("corpus_article", page=100),
    Kind("vector"),
    Kind("context", page=20),
    Kind("generation", page=50),
    Kind("generation_cell", page=50),
    Kind(
        "verdict",
        light=(
            "model", "condition", "question_id", "attempt", "failure", "formulation", "greedy", "samples", "latency_s",
            "cost", "greedy_by", "samples_by", "cached", "warnings",
        ),
    ),
    Kind("review"),
    Kind("gate"),
    Kind("audit"),
)  # fmt: skip
"""Every kind that services store. A kind that is not here cannot be stored in Elasticsearch."""

MAPPING: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "key": {"type": "keyword", "index": False},
        "group": {"type": "keyword"},
        # The writer: shows whether a write whose answer was lost was one's own.
        "by": {"type": "keyword", "index": False, "doc_values": False},
        # The version and the light fields as JSON, in a column: read for many documents without opening them.
        "light": {"type": "binary", "doc_values": True},
        # Kept as it is and never parsed: a body may hold any JSON object.
        "body": {"type": "object", "enabled": False},
    },
}
"""Fields of an index, the same for all kinds."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Names of aliases and indices. Kinds have underscores, names of indices hyphens."""

    prefix: str

    def alias(self, kind: Kind) -> str:
        """Return the alias for reads and writes."""
        return f"{self.prefix}-{kind.name.replace('_', '-')}"

    def index(self, kind: Kind) -> str:
        """Return the index of the declared version."""
        return f"{self.alias(kind)}-v{kind.version}"


def id_of(key: str) -> str:
    """Elasticsearch's id of a key: the key itself, or its hash when it is too long (or would look like a hash).

    Raises:
        InvalidInputError: a key that cannot be kept.

    """
    try:
        raw = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"key {key[:100]!r} holds half a character; expected text that is valid UTF-8"
        ) from error
    if 0 < len(raw) <= MAX_ID_BYTES and not key.startswith(HASHED):
        return key
    if len(raw) > MAX_KEY_BYTES:
        raise InvalidInputError(f"key {key[:100]!r}... has {len(raw)} bytes; expected at most {MAX_KEY_BYTES}")
    return HASHED + hashlib.sha256(raw).hexdigest()


def with_light(kind: Kind, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored form with the column of the kind's light fields taken from its body (none if it has none)."""
    body = source["body"]
    made = {name: value for name, value in source.items() if name != "light"}
    if kind.light:
        light = {name: body[name] for name in kind.light if name in body}
        made["light"] = base64.b64encode(orjson.dumps([kind.version, light])).decode()
    return made


def encode(kind: Kind, document: NewDocument, owner: str) -> bytes:
    """Return the stored form of a document, as JSON.

    Raises:
        InvalidInputError: a group that cannot be kept.
        LimitExceededError: the document is too large.

    """
    if len(document.group.encode(errors="replace")) > MAX_KEY_BYTES:
        raise InvalidInputError(f"group {document.group[:100]!r}... is over {MAX_KEY_BYTES} bytes")
    source = {"key": document.key, "group": document.group, "by": owner, "body": dict(document.body)}
    encoded = orjson.dumps(with_light(kind, source))
    if len(encoded) > MAX_DOCUMENT_BYTES:
        raise LimitExceededError(
            f"{kind.name} {document.key!r} has {len(encoded)} bytes; expected at most {MAX_DOCUMENT_BYTES}"
        )
    return encoded


def decode_found(kind: Kind, source: Mapping[str, Any], version: int) -> Document:
    """Return the document of a stored form; the body is empty where no field of it was read."""
    return Document(kind.name, source["key"], source["group"], source.get("body", {}), version)


def light_of(kind: Kind, hit: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the light fields of a hit; None when another version, with other fields, wrote it."""
    column = hit.get("fields", {}).get("light")
    if column is None:
        return None
    version, light = orjson.loads(base64.b64decode(column[0]))
    return light if version == kind.version else None


def check_key(kind: Kind, key: str, source: Mapping[str, Any]) -> None:
    """Compare the key of what was found under an id.

    Raises:
        StorageError: the id holds another key.

    """
    if source["key"] != key:
        raise StorageError(f"the id of {kind.name} {key!r} holds {source['key']!r}; two keys have one hash")
