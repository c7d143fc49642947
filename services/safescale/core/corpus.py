"""The corpus that retrieval searches: JSONL, one object with id, title and text per line."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from safescale.core.errors import CorpusError, Defect
from safescale.core.records import Findings, Record, Source, decode, jsonl_records, shown

_FIELDS = ("id", "title", "text")


@dataclass(frozen=True, slots=True)
class Document:
    """One article of the corpus; `id` is unique in it, `title` may be empty, `text` never is."""

    id: str
    title: str
    text: str


def check_corpus(sources: Sequence[Source]) -> tuple[tuple[Document, ...], tuple[Defect, ...]]:
    """The documents of one or more JSONL files in their order, and every defect found.

    A document with a defect is left out; other fields than id, title and text are ignored.
    """
    findings = Findings()
    documents: list[Document] = []
    places: dict[str, str] = {}
    for source in sources:
        for record in jsonl_records(source.name, decode(source, findings), findings):
            document = _document(record, findings)
            if document is None:
                continue
            place = f"{record.file}:{record.line}"
            first = places.setdefault(document.id, place)
            if first == place:
                documents.append(document)
            else:
                expected = f"an id of its own, since {first} has this one"
                findings.defects.append(
                    Defect(record.file, record.line, document.id, "id", shown(document.id), expected)
                )
    if not documents and not findings.defects:
        names = ", ".join(source.name for source in sources) or "corpus"
        findings.defects.append(Defect(names, None, None, None, "no documents", "at least one document"))
    return tuple(documents), tuple(findings.defects)


def load_corpus(sources: Sequence[Source]) -> tuple[Document, ...]:
    """The documents of one or more JSONL files in their order.

    Raises CorpusError that lists every defect.
    """
    documents, defects = check_corpus(sources)
    if defects:
        also = f" (and {len(defects) - 1} more defects)" if len(defects) > 1 else ""
        raise CorpusError(f"{defects[0]}{also}", defects=defects)
    return documents


def corpus_hash(documents: Iterable[Document]) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of the documents sorted by id: the same for every order."""
    digest = hashlib.sha256()
    for document in sorted(documents, key=lambda each: each.id):
        record = {"id": document.id, "text": document.text, "title": document.title}
        line = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _document(record: Record, findings: Findings) -> Document | None:
    values = {}
    document_id = record.data.get("id")
    item = document_id if isinstance(document_id, str) and document_id.strip() else None
    for name in _FIELDS:
        value = record.data.get(name)
        if name == "title" and value is None:
            value = ""
        if isinstance(value, str) and (name == "title" or value.strip()):
            values[name] = value.strip()
        else:
            found = shown(value) if name in record.data else "missing"
            expected = "a text" if name == "title" else "a non-empty text"
            findings.defects.append(Defect(record.file, record.line, item, name, found, expected))
    return Document(**values) if len(values) == len(_FIELDS) else None
