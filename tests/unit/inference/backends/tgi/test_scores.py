"""Which tokens of the prompt are a continuation, and what their log-probabilities make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fakes import tgi_model

from safescale.core.errors import BackendRefusedError, GarbageAnswerError
from safescale.inference.backends.tgi.scores import chat_prefix, continuation_score
from safescale.inference.backends.tgi.wire import Prefilled, Rendered, Token

BOS = Token(99, 0, 0)


def tokens_of(text: str) -> list[Token]:
    return [Token(piece.token_id, piece.start, piece.stop) for piece in tgi_model.tokenize(text)]


def prefilled(tokens: list[Token], values: list[float | None]) -> list[Prefilled]:
    return [Prefilled(token.token_id, value) for token, value in zip(tokens, values, strict=True)]


@given(
    st.text(st.sampled_from("aé漢😀\n"), min_size=1, max_size=8),
    st.text(st.sampled_from("bé漢😀."), min_size=1, max_size=8),
    st.booleans(),
)
def test_the_score_is_of_the_tokens_behind_the_prompt(prompt: str, text: str, added: bool) -> None:
    # A blank and a mark between them: no token reaches over the border.
    prefix, continuation = prompt + ":", " " + text
    before, after = tokens_of(prefix), tokens_of(prefix + continuation)
    tokens = [BOS] * added + after
    values = [None, *(-float(index) for index in range(1, len(tokens)))]
    score = continuation_score(prefix, tokens, prefilled(tokens, values), "m")
    assert score.tokens == len(after) - len(before)
    expected = values[len(tokens) - score.tokens :]
    assert score.mean_logprob == pytest.approx(sum(expected) / len(expected))


def test_a_token_over_the_border_counts_whole() -> None:
    tokens = [Token(1, 0, 2), Token(2, 2, 5), Token(3, 5, 6)]
    score = continuation_score("abc", tokens, prefilled(tokens, [None, -4.0, -2.0]), "m")
    assert (score.tokens, score.mean_logprob) == (2, -3.0)


def test_a_certain_token_is_never_above_zero() -> None:
    tokens = [Token(1, 0, 1), Token(2, 1, 2)]
    assert continuation_score("a", tokens, prefilled(tokens, [None, 1e-9]), "m").mean_logprob == 0.0


@pytest.mark.parametrize(
    ("values", "ids", "error"),
    [
        ([None, None], (1, 2), BackendRefusedError),
        ([], (), BackendRefusedError),
        ([None, -1.0], (1, 3), GarbageAnswerError),
        ([None], (1,), GarbageAnswerError),
    ],
)
def test_what_is_no_score(values: list[float | None], ids: tuple[int, ...], error: type[Exception]) -> None:
    tokens = [Token(1, 0, 1), Token(2, 1, 2)]
    given_back = [Prefilled(token_id, value) for token_id, value in zip(ids, values, strict=True)]
    with pytest.raises(error):
        continuation_score("a", tokens, given_back, "m")


CHAT = "<s>user: é?\nyou: "


def rendered(text: str) -> Rendered:
    return Rendered(text, tuple(special(text)))


def special(text: str) -> list[Token]:
    """A tokenizer that knows the mark <s>."""
    if text.startswith("<s>"):
        return [Token(99, 0, 3), *(Token(t.token_id, t.start + 3, t.stop + 3) for t in tokens_of(text[3:]))]
    return tokens_of(text)


async def adds_nothing(text: str) -> tuple[Token, ...]:
    return tuple(special(text))


async def adds_its_first_token(text: str) -> tuple[Token, ...]:
    return (BOS, *special(text))


async def test_a_chat_is_scored_as_the_very_tokens_that_it_is() -> None:
    assert await chat_prefix(adds_nothing, rendered(CHAT), "m") == CHAT
    assert await chat_prefix(adds_its_first_token, rendered(CHAT), "m") == CHAT[3:]


async def test_a_chat_whose_tokens_generate_cannot_read_is_not_scored() -> None:
    with pytest.raises(BackendRefusedError):
        await chat_prefix(adds_its_first_token, rendered(CHAT[3:]), "m")
