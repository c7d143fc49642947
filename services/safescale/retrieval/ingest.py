"""Documents of an ingest, checked as they arrive: every defect is listed, every limit is named."""

from dataclasses import dataclass

from safescale.core.errors import CorpusError, Defect, LimitExceededError
from safescale.core.inputs.corpus import CorpusDocument, document_faults
from safescale.core.inputs.records import shown
from safescale.core.inputs.text import visible_line
from safescale.core.inputs.text_rules import name_fault

MIB = 1024 * 1024
SHOWN_DEFECTS = 50


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """What one ingest may hold; sizes in bytes of UTF-8."""

    documents: int = 1_000_000
    text_bytes: int = 4 * MIB
    title_bytes: int = 4096
    id_bytes: int = 512
    total_bytes: int = 1024 * MIB


class IncomingCorpus:
    """Collects the documents of one ingest. White space around id, title and text is dropped, as in corpus files."""

    def __init__(self, name: str, limits: IngestLimits) -> None:
        if (found := name_fault(name)) is not None:
            raise CorpusError(f"name is {found[0]}; expected {found[1]}")
        self.name = name
        self._limits = limits
        self._documents: dict[str, CorpusDocument] = {}
        self._places: dict[str, int] = {}
        self._defects: list[Defect] = []
        self._received = 0
        self._bytes = 0

    def add(self, document: CorpusDocument) -> None:
        """Take up a document.

        Raises:
            LimitExceededError: a text, a title, an id, the number of documents or their size together is too large.

        """
        self._received += 1
        document = CorpusDocument(document.id.strip(), document.title.strip(), document.text.strip())
        self._check_limits(document)
        before = len(self._defects)
        for field in ("id", "text"):
            if not getattr(document, field):
                self._defect(document, field, "", "a non-empty text")
        for field, value, expected in document_faults(document):
            self._defects.append(self._at(document, field, value, expected))
        first = self._places.setdefault(document.id, self._received)
        if document.id and first != self._received:
            self._defect(document, "id", document.id, f"an id of its own, since document {first} has this one")
        if len(self._defects) == before:
            self._documents[document.id] = document

    def _defect(self, document: CorpusDocument, field: str, value: str, expected: str) -> None:
        self._defects.append(self._at(document, field, shown(value), expected))

    def _at(self, document: CorpusDocument, field: str, value: str, expected: str) -> Defect:
        return Defect(self.name or "corpus", self._received, visible_line(document.id) or None, field, value, expected)

    def _check_limits(self, document: CorpusDocument) -> None:
        limits = self._limits
        place = f"document {self._received:,}"
        sizes = {"id": limits.id_bytes, "title": limits.title_bytes, "text": limits.text_bytes}
        for field, limit in sizes.items():
            size = len(getattr(document, field).encode())
            self._bytes += size
            if size > limit:
                raise LimitExceededError(f"{place}: {field} has {size:,} bytes; expected at most {limit:,}")
        if self._received > limits.documents:
            raise LimitExceededError(f"{place}: expected at most {limits.documents:,} documents")
        if self._bytes > limits.total_bytes:
            raise LimitExceededError(
                f"{place}: the documents together have more than {limits.total_bytes:,} bytes of text"
            )

    def finish(self) -> list[CorpusDocument]:
        """Return the documents.

        Raises:
            CorpusError: there is none, or some have defects; all are listed.

        """
        if not self._received:
            raise CorpusError("the corpus is empty; expected at least one document")
        if self._defects:
            more = f" (and {len(self._defects) - 1} more defects)" if len(self._defects) > 1 else ""
            raise CorpusError(f"{self._defects[0]}{more}", defects=self._defects[:SHOWN_DEFECTS])
        return list(self._documents.values())
