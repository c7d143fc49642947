import pytest

from safescale.core.errors import CorpusError, LimitExceededError
from safescale.core.inputs.corpus import CorpusDocument
from safescale.retrieval.ingest import IncomingCorpus, IngestLimits


def test_white_space_around_is_dropped() -> None:
    incoming = IncomingCorpus("c", IngestLimits())
    incoming.add(CorpusDocument(" a ", " T ", "\ntext\n"))
    assert incoming.finish() == [CorpusDocument("a", "T", "text")]


def test_every_defect_is_listed_with_its_place() -> None:
    incoming = IncomingCorpus("c", IngestLimits())
    for document in (
        CorpusDocument("a", "", "x"),
        CorpusDocument("", "", "x"),
        CorpusDocument("b", "", " "),
        CorpusDocument("a", "", "y"),
    ):
        incoming.add(document)
    with pytest.raises(CorpusError, match="2 more defects") as caught:
        incoming.finish()
    assert [(defect.line, defect.field) for defect in caught.value.defects] == [(2, "id"), (3, "text"), (4, "id")]
    assert "document 1 has this one" in caught.value.defects[2].expected


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(CorpusError, match="empty"):
        IncomingCorpus("c", IngestLimits()).finish()


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (IngestLimits(documents=1), "document 2: expected at most 1 documents"),
        (IngestLimits(text_bytes=6), "document 2: text has 7 bytes; expected at most 6"),
        (IngestLimits(title_bytes=1), "document 2: title has 2 bytes"),
        (IngestLimits(id_bytes=1), "document 2: id has 2 bytes"),
        (IngestLimits(total_bytes=12), "document 2: the documents together"),
    ],
)
def test_each_limit_is_named(limits: IngestLimits, named: str) -> None:
    incoming = IncomingCorpus("c", limits)
    incoming.add(CorpusDocument("a", "", "x"))
    with pytest.raises(LimitExceededError, match=named):
        incoming.add(CorpusDocument("bb", "ti", "größe"))
