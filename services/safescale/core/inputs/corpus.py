"""The corpus that retrieval searches: JSONL, one object with id, title and text per line."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from safescale.core.errors import CorpusError, Defect
from safescale.core.inputs.records import DefectLog, Record, Source, decode, jsonl_records, shown
from safescale.core.inputs.text import visible_line
from safescale.core.inputs.text_rules import name_fault, text_fault, title_fault

_FIELDS = ("id", "title", "text")
_MAX_ID = 512
_MAX_TITLE = 4096


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    """One article of the corpus; `id` is unique in it, `title` may be empty, `text` never is."""

    id: str
    title: str
    text: str


class CorpusReader:
    """Documents of JSONL files that come whole or in parts, in their order; every defect is collected."""

    def __init__(self) -> None:
        self._findings = DefectLog()
        self._places: dict[str, str] = {}

    @property
    def defects(self) -> Sequence[Defect]:
        """What is wrong with what was read."""
        return self._findings.defects

    @property
    def document_count(self) -> int:
        """Number of different documents without a defect."""
        return len(self._places)

    def read(self, source: Source, first_line: int = 1) -> list[CorpusDocument]:
        """Yield the documents of a file, or of a part of it that is whole lines from line `first_line` on.

        A document with a defect is left out; other fields than id, title and text are ignored.
        """
        documents: list[CorpusDocument] = []
        if self._findings.full:
            self._findings.end_early(source.name, first_line)
            return documents
        text = self._text(source, first_line)
        for record in jsonl_records(source.name, text, self._findings, first_line):
            document = _document(record, self._findings)
            if document is None:
                continue
            place = f"{record.file}:{record.line}"
            first = self._places.setdefault(document.id, place)
            if first == place:
                documents.append(document)
            else:
                expected = f"an id of its own, since {first} has this one"
                self._findings.defects.append(
                    Defect(record.file, record.line, visible_line(document.id[:80]), "id", shown(document.id), expected)
                )
        return documents

    def _text(self, source: Source, first_line: int) -> str:
        local = DefectLog()
        text = decode(source, local)
        for each in local.defects:
            line = each.line and each.line + first_line - 1
            # An offset counts from the begin of what was read, which says nothing in a part.
            value = each.value if first_line == 1 else each.value.partition(" at offset")[0]
            self._findings.defects.append(replace(each, line=line, value=value))
        return text


def check_corpus(sources: Sequence[Source]) -> tuple[tuple[CorpusDocument, ...], tuple[Defect, ...]]:
    """Return the documents of one or more JSONL files in their order, and every defect found."""
    reader = CorpusReader()
    documents = [document for source in sources for document in reader.read(source)]
    defects = list(reader.defects)
    if not documents and not defects:
        names = ", ".join(source.name for source in sources) or "corpus"
        defects.append(no_documents(names))
    return tuple(documents), tuple(defects)


def no_documents(name: str) -> Defect:
    """Return the defect of an empty corpus."""
    return Defect(name, None, None, None, "no documents", "at least one document")


def load_corpus(sources: Sequence[Source]) -> tuple[CorpusDocument, ...]:
    """Return the documents of one or more JSONL files in their order.

    Raises CorpusError that lists every defect.
    """
    documents, defects = check_corpus(sources)
    if defects:
        raise corpus_error(defects)
    return documents


def corpus_error(defects: Sequence[Defect]) -> CorpusError:
    """Return the error that lists the defects of a corpus."""
    also = f" (and {len(defects) - 1} more defects)" if len(defects) > 1 else ""
    return CorpusError(f"{defects[0]}{also}", defects=defects)


def corpus_hash(documents: Iterable[CorpusDocument]) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of the documents sorted by id: the same for every order."""
    digest = hashlib.sha256()
    for document in sorted(documents, key=lambda each: each.id):
        record = {"id": document.id, "text": document.text, "title": document.title}
        line = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _document(record: Record, findings: DefectLog) -> CorpusDocument | None:
    values = {}
    document_id = record.data.get("id")
    item = visible_line(document_id[:80]) if isinstance(document_id, str) and document_id.strip() else None
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
    if len(values) < len(_FIELDS):
        return None
    document = CorpusDocument(**values)
    faults = list(document_faults(document))
    findings.defects.extend(Defect(record.file, record.line, item, *fault) for fault in faults)
    return None if faults else document


def document_faults(document: CorpusDocument) -> Iterator[tuple[str, str, str]]:
    """Find characters that cannot be shown, and lengths, in a document: field, what is there, what was expected."""
    for field, found in (
        ("id", name_fault(document.id, _MAX_ID)),
        ("title", title_fault(document.title, _MAX_TITLE)),
        ("text", text_fault(document.text)),
    ):
        if found is not None:
            yield field, *found
