import pytest

from safescale.core.errors import FailedPreconditionError, NotFoundError, StorageError
from safescale.core.inputs.corpus import CorpusDocument
from safescale.retrieval.chunking import ChunkParams
from safescale.retrieval.corpora import ARTICLE, Corpora
from safescale.retrieval.index.memory import MemoryIndex
from safescale.runtime.documents.port import NewDocument

PARAMS = ChunkParams(24, 4)
DOCUMENTS = [
    CorpusDocument("a", "Pleural effusion", "An effusion of the pleura blunts the angle. " * 4),
    CorpusDocument("b", "Pneumothorax", "A pneumothorax shows a pleural line and no markings beyond it."),
    CorpusDocument("c", "", "Rib fractures of the chest."),
]


def make(documents, embedder, params=PARAMS) -> Corpora:
    return Corpora(documents, embedder, MemoryIndex(), params)


async def rows(documents) -> dict[str, int]:
    return {kind: await documents.count(kind) for kind in ("corpus", "corpus_article", "vector")}


async def test_ingest_again_writes_and_embeds_nothing(documents, make_embedder) -> None:
    first = make_embedder()
    corpus, created = await make(documents, first).ingest("radiology", DOCUMENTS)
    before = await rows(documents)
    second = make_embedder()
    again, created_again = await make(documents, second).ingest("other name", list(reversed(DOCUMENTS)))
    assert (created, created_again) == (True, False)
    assert again == corpus
    assert (corpus.name, corpus.document_count, corpus.embedder) == ("radiology", 3, "counting@revision-1")
    assert corpus.chunk_count == len(first.asked) > 3
    assert second.asked == []
    assert await rows(documents) == before


async def test_the_id_depends_on_documents_chunking_and_embedder(documents, make_embedder) -> None:
    ids = {
        (await make(documents, make_embedder(revision), params).ingest("c", docs))[0].corpus_id
        for revision, params, docs in [
            ("r1", PARAMS, DOCUMENTS),
            ("r1", PARAMS, DOCUMENTS[:2]),
            ("r1", ChunkParams(30, 4), DOCUMENTS),
            ("r1", ChunkParams(24, 5), DOCUMENTS),
            ("r2", PARAMS, DOCUMENTS),
        ]
    }
    assert len(ids) == 5


async def test_search_after_a_restart_is_the_same_and_embeds_nothing(documents, make_embedder) -> None:
    before = make(documents, make_embedder())
    corpus, _ = await before.ingest("c", DOCUMENTS)
    hits = await before.search(corpus.corpus_id, "pleural line", 10)
    embedder = make_embedder()
    assert await make(documents, embedder).search(corpus.corpus_id, "pleural line", 10) == hits
    assert embedder.asked == []
    assert hits[0].chunk.document_id == "b"
    assert hits[0].chunk.title == "Pneumothorax"
    assert hits[0].chunk.token_count == embedder.tokenizer.count(hits[0].chunk.text)


async def test_chunks_are_slices_of_the_article(documents, make_embedder) -> None:
    corpora = make(documents, make_embedder())
    corpus, _ = await corpora.ingest("c", DOCUMENTS)
    hits = await corpora.search(corpus.corpus_id, "effusion", 1000)
    assert len(hits) == corpus.chunk_count
    articles = {d.id: f"{d.title}\n\n{d.text}" if d.title else d.text for d in DOCUMENTS}
    assert all(hit.chunk.text in articles[hit.chunk.document_id] for hit in hits)
    assert {hit.chunk.chunk_id for hit in hits} >= {"a#0", "a#1", "b#0", "c#0"}
    firsts = {hit.chunk.document_id: hit.chunk.text for hit in hits if hit.chunk.chunk_id.endswith("#0")}
    assert firsts["a"].startswith("Pleural effusion\n\nAn effusion")


async def test_an_ingest_that_was_cut_off_leaves_no_corpus_and_is_taken_up(documents, make_embedder) -> None:
    class FullDisk:
        def __init__(self) -> None:
            self.puts = 0

        def __getattr__(self, name):
            return getattr(documents, name)

        async def put_if_absent(self, document: NewDocument) -> bool:
            raise StorageError("disk full")

    with pytest.raises(StorageError):
        await make(FullDisk(), make_embedder()).ingest("c", DOCUMENTS)
    embedder = make_embedder()
    corpora = make(documents, embedder)
    assert await corpora.all() == []
    corpus, created = await corpora.ingest("c", DOCUMENTS)
    assert created
    assert embedder.asked == []
    assert await corpora.all() == [corpus]


async def test_an_unknown_corpus_is_not_found(documents, make_embedder) -> None:
    with pytest.raises(NotFoundError, match="nope"):
        await make(documents, make_embedder()).search("nope", "lung", 1)


async def test_vectors_of_another_embedder_are_not_searched(documents, make_embedder) -> None:
    corpus, _ = await make(documents, make_embedder("r1")).ingest("c", DOCUMENTS)
    with pytest.raises(FailedPreconditionError, match="ingest the corpus again"):
        await make(documents, make_embedder("r2")).search(corpus.corpus_id, "lung", 1)


async def test_a_corpus_with_lost_articles_says_so(documents, make_embedder) -> None:
    corpus, _ = await make(documents, make_embedder()).ingest("c", DOCUMENTS)
    stored = await documents.get(ARTICLE, f"{corpus.corpus_id}/a")
    await documents.put(NewDocument(ARTICLE, stored.key, stored.body, group="elsewhere"))
    with pytest.raises(StorageError, match="2 of its 3"):
        await make(documents, make_embedder()).search(corpus.corpus_id, "lung", 1)


async def test_corpora_asked_longest_ago_leave_memory_and_come_back_when_asked(documents, make_embedder) -> None:
    embedder = make_embedder()
    index = MemoryIndex(max_chunks=1)
    corpora = Corpora(documents, embedder, index, PARAMS)
    ids = [(await corpora.ingest(name, DOCUMENTS[: count + 1]))[0].corpus_id for count, name in enumerate("abc")]
    assert [await index.has(identifier) for identifier in ids] == [False, True, True]
    asked = len(embedder.asked)
    for identifier in [*ids, *reversed(ids)]:
        hits = await corpora.search(identifier, "effusion pleural", 3)
        assert hits[0].chunk.text
    # Two are held at a time; those that come back are not embedded anew, but for the query.
    assert sum([await index.has(identifier) for identifier in ids]) == 2
    assert len(embedder.asked) <= asked + 1


async def test_a_corpus_that_goes_between_its_ranking_and_its_reading_comes_back(documents, make_embedder) -> None:
    index = MemoryIndex()
    corpora = Corpora(documents, make_embedder(), index, PARAMS)
    corpus, _ = await corpora.ingest("c", DOCUMENTS)
    ranked = await corpora.rank(corpus.corpus_id, "pleural line", 2)
    await index.close()
    chunks = await corpora.read(corpus.corpus_id, [place.chunk_id for place in ranked])
    assert [chunk.chunk_id for chunk in chunks] == [place.chunk_id for place in ranked]
    with pytest.raises(NotFoundError, match="no chunk"):
        await corpora.read(corpus.corpus_id, ["nowhere"])
