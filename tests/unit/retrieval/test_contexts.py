import pytest

from safescale.core.errors import GarbageAnswerError, InvalidInputError, NotFoundError
from safescale.core.inputs.corpus import CorpusDocument
from safescale.core.safety.conditions import CONDITIONS
from safescale.retrieval.chunking import ChunkParams
from safescale.retrieval.clients import ModelTokenizers
from safescale.retrieval.contexts import (
    BuilderPorts,
    Context,
    ContextBuilder,
    ContextRequest,
    ContextStore,
    Skipped,
    repeated,
)
from safescale.retrieval.corpora import Corpora
from safescale.retrieval.index.memory import MemoryIndex
from safescale.retrieval.index.port import Chunk
from safescale.retrieval.packing import SEPARATOR
from safescale.runtime.telemetry import Telemetry

WINDOW = 2048 + 4096 + 1000
SAMPLES = "safescale_retrieval_seconds_count"


class Bench:
    """A builder over a corpus of thirty short articles."""

    def __init__(self, documents, embedder, inference) -> None:
        self.telemetry = Telemetry()
        self.embedder = embedder
        self.inference = inference
        self.store = ContextStore(documents)
        self.corpora = Corpora(documents, embedder, MemoryIndex(), ChunkParams(40, 6))
        models = ModelTokenizers(lambda: inference.channel)
        ports = BuilderPorts(self.corpora, embedder, models, self.store, self.telemetry)
        self.builder = ContextBuilder(ports)
        self.corpus_id = ""

    async def fill(self, count: int = 30) -> "Bench":
        articles = [
            CorpusDocument(f"d{i:02}", f"Article {i}", f"The chest of a lung and mm {i}. " * 3) for i in range(count)
        ]
        self.corpus_id = (await self.corpora.ingest("c", articles))[0].corpus_id
        return self

    async def build(self, condition: str, model: str = "", query: str = "the lung 7") -> Context | Skipped:
        return (await self.builder.build(ContextRequest(self.corpus_id, query, condition, model)))[0]

    async def ranked(self) -> list:
        return [hit.chunk for hit in await self.corpora.search(self.corpus_id, "the lung 7", 1000)]

    def count(self, text: str) -> int:
        return self.embedder.tokenizer.count(text)

    def timed(self, condition: str, outcome: str) -> float | None:
        return self.telemetry.registry.get_sample_value(SAMPLES, {"condition": condition, "outcome": outcome})


@pytest.fixture
async def bench(documents, make_embedder, inference) -> Bench:
    return await Bench(documents, make_embedder(), inference).fill()


async def test_each_condition_is_shown_before_its_first_context(bench: Bench) -> None:
    shown = {row.id for row in CONDITIONS if bench.timed(row.id, "ok") == 0}
    assert shown == {row.id for row in CONDITIONS if row.id.startswith(("top_", "padded_", "context_"))}


async def test_top_k_joins_the_best_chunks_in_rank_order(bench: Bench) -> None:
    ranked = await bench.ranked()
    for k in (1, 5, 10):
        context = await bench.build(f"top_{k}")
        assert context.text == SEPARATOR.join(chunk.text for chunk in ranked[:k])
        assert context.chunk_ids == tuple(chunk.chunk_id for chunk in ranked[:k])
        assert (context.token_count, context.tokenizer) == (bench.count(context.text), "tiny")
        assert bench.timed(f"top_{k}", "ok") == 1


async def test_the_larger_k_contains_the_smaller(bench: Bench) -> None:
    one, five, ten = [await bench.build(f"top_{k}") for k in (1, 5, 10)]
    assert ten.text.startswith(five.text + SEPARATOR)
    assert five.text.startswith(one.text + SEPARATOR)


async def test_padding_repeats_the_best_chunk_to_the_length_of_ten(bench: Bench) -> None:
    one, ten = await bench.build("top_1"), await bench.build("top_10")
    padded = await bench.build("padded_top_1")
    assert padded.token_count == bench.count(padded.text) == ten.token_count
    repeats = len(padded.chunk_ids)
    assert set(padded.chunk_ids) == set(one.chunk_ids)
    assert repeats > 5
    assert SEPARATOR.join([one.text] * repeats).startswith(padded.text)
    assert len(padded.text) > len(SEPARATOR.join([one.text] * (repeats - 1)))


async def test_padding_in_a_corpus_of_one_chunk_is_that_chunk(documents, make_embedder, inference) -> None:
    bench = await Bench(documents, make_embedder(), inference).fill(1)
    (only,) = await bench.ranked()
    padded = await bench.build("padded_top_1")
    assert (padded.text, padded.chunk_ids) == (only.text, (only.chunk_id,))


async def test_fewer_chunks_than_asked_are_all_taken(documents, make_embedder, inference) -> None:
    bench = await Bench(documents, make_embedder(), inference).fill(1)
    context = await bench.build("top_10")
    assert context.chunk_ids == tuple(chunk.chunk_id for chunk in await bench.ranked())
    assert 0 < len(context.chunk_ids) < 10


@pytest.mark.parametrize("model", ["words", "quarters"])
@pytest.mark.parametrize("budget", [1, 7, 20, 101, 333])
async def test_max_context_fills_the_budget_by_the_models_tokenizer(bench: Bench, model: str, budget: int) -> None:
    bench.inference.windows[model] = WINDOW + budget
    context = await bench.build("context_max", model)
    whole = SEPARATOR.join(chunk.text for chunk in await bench.ranked())
    assert whole.startswith(context.text)
    assert context.tokenizer == model
    # White space and a torn separator are dropped from the end.
    assert budget - (2 if model == "words" else 3) <= context.token_count <= budget
    chunks = context.text.split(SEPARATOR)
    assert len(context.chunk_ids) == len(chunks)
    assert all(chunk.strip("-\n") for chunk in chunks)


@pytest.mark.parametrize("model", ["words", "quarters"])
async def test_a_corpus_below_the_budget_is_taken_whole_and_not_padded(bench: Bench, model: str) -> None:
    bench.inference.windows[model] = 200_000
    ranked = await bench.ranked()
    for condition in ("context_32k", "context_100k", "context_max"):
        context = await bench.build(condition, model)
        assert context.text == SEPARATOR.join(chunk.text for chunk in ranked)
        assert len(context.chunk_ids) == len(ranked)


async def test_chunks_are_counted_once_for_a_model(bench: Bench) -> None:
    bench.inference.windows["words"] = 40_000
    await bench.build("context_32k", "words", "first question")
    before = bench.inference.texts_counted
    await bench.build("context_32k", "words", "second question")
    assert bench.inference.texts_counted - before < 5 < before


@pytest.mark.parametrize(("condition", "window"), [("context_32k", 32_000), ("context_max", WINDOW)])
async def test_a_condition_that_does_not_fit_is_skipped_with_a_reason(
    bench: Bench, condition: str, window: int
) -> None:
    bench.inference.windows["words"] = window
    outcome = await bench.build(condition, "words")
    assert isinstance(outcome, Skipped)
    assert f"{condition} does not fit words: its window is {window:,} tokens" in outcome.reason
    assert bench.timed(condition, "skipped") == 1


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (ContextRequest("", "q", "top_1"), "corpus_id is empty"),
        (ContextRequest("c", " ", "top_1"), "query is empty"),
        (ContextRequest("c", "q", ""), "condition is empty"),
        (ContextRequest("c", "q", "top_99"), "unknown condition 'top_99'"),
        (ContextRequest("c", "q", "zero_shot"), "not built by retrieval; expected one of top_1"),
        (ContextRequest("c", "q", "context_32k"), "model is empty"),
    ],
)
async def test_a_wrong_request_names_its_field(bench: Bench, request_: ContextRequest, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        await bench.builder.build(request_)


async def test_failures_are_timed_by_reason_and_unknown_conditions_make_no_labels(bench: Bench) -> None:
    with pytest.raises(NotFoundError):
        await bench.build("context_max", "absent")
    with pytest.raises(InvalidInputError):
        await bench.build("made_up")
    assert bench.timed("context_max", "NOT_FOUND") == 1
    assert bench.timed("unknown", "INVALID_INPUT") == 1


async def test_a_cut_that_is_no_prefix_is_refused(bench: Bench) -> None:
    bench.inference.windows["words"] = WINDOW + 10
    bench.inference.garbage = True
    with pytest.raises(GarbageAnswerError, match="no prefix"):
        await bench.build("context_max", "words")


async def test_a_built_context_can_be_read_by_its_hash(bench: Bench) -> None:
    context = await bench.build("top_5")
    assert await bench.store.get(context.context_id) == context
    with pytest.raises(NotFoundError):
        await bench.store.get("0" * 64)


async def test_one_text_is_stored_once(bench: Bench, documents) -> None:
    first = await bench.build("top_1")
    await bench.build("top_1")
    await bench.store.put(Context(first.text, (), 9, "other", ""))
    assert await documents.count("context") == 1
    assert await bench.store.get(first.context_id) == first


class Joining:
    """A tokenizer that does not tell that its tokens end at white space."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer
        self.splits_at_space = False

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize("more", [0, 1, 2, 3, 4, 5, 11, 17, 18, 40, 333])
def test_repeating_reads_the_last_copy_alone_and_gives_the_same(tokenizer, more: int) -> None:
    text = "An effusion of 3.5 mm, and a pneumothorax of the left-sided lung\u2014naïve."
    chunk = Chunk("a#0", "a", "", text, tokenizer.count(text))
    target = chunk.token_count + more
    short = repeated(chunk, target, tokenizer)
    assert short == repeated(chunk, target, Joining(tokenizer))
    assert short[1] == tokenizer.count(short[0]) <= target


async def test_a_tokenizer_whose_tokens_reach_over_space_counts_the_whole(documents, make_embedder, inference) -> None:
    told, untold = make_embedder(), make_embedder()
    untold.tokenizer = Joining(untold.tokenizer)
    texts = []
    for embedder in (told, untold):
        bench = await Bench(documents, embedder, inference).fill()
        texts.append([await bench.build(condition) for condition in ("top_5", "top_10", "padded_top_1")])
    assert texts[0] == texts[1]
