from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.errors import InvalidInputError
from safescale.core.inputs.corpus import CorpusDocument
from safescale.retrieval.chunking import ChunkParams, article, chunk_id, cut, prefix_of_tokens
from safescale.retrieval.embed.embedded import WordPieceTokenizer

WORDS = st.sampled_from(
    ["the", "lung", "pneumothorax", "3.5", "mm", "T2/FLAIR", "é", "naïve", "cafe\u0301", "肺炎", "한국어", "🙂",
     "[SEP]", "##ing", "hemangioblastomatosis", "x" * 60, "\u200b", "(right)", "İ", "β₂", "\u0301", "-"]
)  # fmt: skip
SPACES = st.sampled_from([" ", " ", " ", "\n\n", "\t", "", "\u00a0"])
TEXTS = st.one_of(
    st.text(min_size=1, max_size=300),
    st.lists(st.tuples(WORDS, SPACES), min_size=1, max_size=150).map(
        lambda parts: "".join(word + space for word, space in parts)
    ),
)
PARAMS = st.integers(8, 40).flatmap(lambda size: st.builds(ChunkParams, st.just(size), st.integers(0, size // 2)))


@given(text=TEXTS, params=PARAMS)
@settings(max_examples=150, deadline=None)
def test_chunks_cover_the_text_in_order_within_the_limit(
    tokenizer: WordPieceTokenizer, text: str, params: ChunkParams
) -> None:
    spans = cut(text, tokenizer, params)
    covered = set()
    for span in spans:
        piece = text[span.start : span.end]
        assert span.token_count == tokenizer.count(piece) <= params.size
        assert piece == piece.rstrip()
        covered.update(range(span.start, span.end))
    assert [span.start for span in spans] == sorted(span.start for span in spans)
    assert [span.end for span in spans] == sorted(span.end for span in spans)
    assert all(text[index].isspace() for index in range(len(text)) if index not in covered)


@given(count=st.integers(1, 200), params=PARAMS)
@settings(max_examples=60, deadline=None)
def test_overlap_is_exact_where_every_token_is_a_word(
    tokenizer: WordPieceTokenizer, count: int, params: ChunkParams
) -> None:
    text = " ".join(words(count))
    assert tokenizer.count(text) == count
    spans = cut(text, tokenizer, params)
    for left, right in pairwise(spans):
        assert left.token_count == params.size
        assert tokenizer.count(text[right.start : left.end]) == params.overlap
    if len(spans) > 1:
        assert params.overlap < spans[-1].token_count <= params.size


def words(count: int) -> list[str]:
    return [("the", "lung", "of", "chest", "and")[i % 5] for i in range(count)]


@given(parts=st.lists(st.sampled_from(["3.5", "mm", "effusion.", "pneumothorax,", "subpleural", "lung"]), min_size=40))
@settings(max_examples=60, deadline=None)
def test_cuts_fall_on_white_space_and_overlap_is_never_short(tokenizer: WordPieceTokenizer, parts: list[str]) -> None:
    text, params = " ".join(parts), ChunkParams(90, 15)
    spans = cut(text, tokenizer, params)
    for left, right in pairwise(spans):
        assert text[left.end].isspace()
        assert text[right.start - 1].isspace()
        overlap = tokenizer.count(text[right.start : left.end])
        assert params.overlap <= overlap <= params.overlap + params.reach


def test_the_protocol_cut_of_an_article(tiny_tokenizer: WordPieceTokenizer) -> None:
    text = " ".join(words(700))
    spans = cut(text, tiny_tokenizer, ChunkParams())
    assert [span.token_count for span in spans] == [300, 300, 200]


@pytest.mark.parametrize("text", ["a", "  lung \n", "\u200b", "🙂"])
def test_a_short_text_is_one_chunk(tiny_tokenizer: WordPieceTokenizer, text: str) -> None:
    (span,) = cut(text, tiny_tokenizer, ChunkParams())
    assert text[span.start : span.end] == text.strip()


def test_a_word_without_space_is_cut_inside(tiny_tokenizer: WordPieceTokenizer) -> None:
    text = "ab" * 18 + "." + "cd" * 18
    spans = cut(text, tiny_tokenizer, ChunkParams(10, 2))
    assert len(spans) > 5
    assert max(span.token_count for span in spans) <= 10


def test_title_stands_before_the_text_where_there_is_one() -> None:
    assert article(CorpusDocument("d", "Title", "Text.")) == "Title\n\nText."
    assert article(CorpusDocument("d", "", "Text.")) == "Text."
    assert chunk_id("d", 2) == "d#2"


@pytest.mark.parametrize(("size", "overlap"), [(7, 1), (300, 151), (300, -1)])
def test_parameters_that_make_no_sense_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(InvalidInputError, match=str(size)):
        ChunkParams(size, overlap)


@given(text=TEXTS, limit=st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_prefix_holds_at_most_the_limit_and_is_close_to_it(
    tokenizer: WordPieceTokenizer, text: str, limit: int
) -> None:
    prefix = prefix_of_tokens(text, tokenizer, limit)
    assert text.startswith(prefix)
    if tokenizer.count(text) <= limit:
        assert prefix == text
    else:
        assert limit - 40 <= tokenizer.count(prefix) <= limit


@given(limit=st.integers(1, 99))
def test_prefix_has_exactly_the_limit_in_plain_words(tokenizer: WordPieceTokenizer, limit: int) -> None:
    assert tokenizer.count(prefix_of_tokens(" ".join(words(100)), tokenizer, limit)) == limit


def test_prefix_takes_part_of_a_word_to_meet_the_limit(tiny_tokenizer: WordPieceTokenizer) -> None:
    assert prefix_of_tokens("the kidney", tiny_tokenizer, 3) == "the ki"


@given(texts=st.lists(st.text(max_size=30).map(str.strip), min_size=1, max_size=5))
def test_texts_with_space_between_have_the_tokens_that_they_have_alone(tokenizer, texts: list[str]) -> None:
    assert tokenizer.splits_at_space
    separator = "\n\n---\n\n"
    apart = sum(map(tokenizer.count, texts)) + (len(texts) - 1) * tokenizer.count(separator)
    assert tokenizer.count(separator.join(texts)) == apart
    assert [tokenizer.count(text) for text in texts] == [len(tokenizer.offsets(text)) for text in texts]
