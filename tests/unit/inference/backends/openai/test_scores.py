"""Scores and tokens out of answers that the servers document, and out of others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import GarbageAnswerError, InvalidInputError, SafescaleError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.openai.scores import SCORINGS
from safescale.inference.backends.openai.tokens import ServedModel, tgi_tokens, tokens

CHAT = ServedModel("m", "served", instruct=True)
BASE = ServedModel("m", "served", instruct=False)
PROMPT = Messages("S", "U")


def talk(steps, answer):
    """Run a conversation; what was asked and the result."""
    asked = []
    try:
        ask = next(steps)
        while True:
            asked.append(ask)
            ask = steps.send(answer(ask))
    except StopIteration as end:
        return asked, end.value


def tokenizer(ask):
    """Ids 1 2 3 for the prompt, 7 and up for a text's words."""
    if "messages" in ask.body or ask.body["add_special_tokens"]:
        return {"count": 3, "max_model_len": 100, "tokens": [1, 2, 3]}
    return {"count": 1, "max_model_len": 100, "tokens": [7 + len(word) for word in ask.body["prompt"].split()]}


def vllm(ask):
    if ask.path == "/tokenize":
        return tokenizer(ask)
    places = [
        [None, *({str(token): {"logprob": -token / 10, "rank": 1}, "99": {"logprob": -9.0}} for token in ids[1:])]
        for ids in ask.body["prompt"]
    ]
    return {"choices": [{"index": index, "prompt_logprobs": place} for index, place in enumerate(places)][::-1]}


def sglang(ask):
    if ask.path == "/tokenize":
        return tokenizer(ask)
    start = ask.body["logprob_start_len"]
    return [
        {
            "text": "",
            "meta_info": {
                "input_token_logprobs": [
                    [None, ids[start], None],
                    *([-token / 10, token, None] for token in ids[start + 1 :]),
                ]
            },
        }
        for ids in ask.body["input_ids"]
    ]


@pytest.mark.parametrize(("way", "server"), [("prompt_logprobs", vllm), ("input_logprobs", sglang)])
@pytest.mark.parametrize("served", [CHAT, BASE], ids=["chat", "base"])
def test_scores_are_means_over_the_continuations_own_tokens(way, server, served) -> None:
    asked, scored = talk(SCORINGS[way](served, PROMPT, [" ab abc", " a"]), server)
    assert [(score.mean_logprob, score.tokens) for score in scored.items] == [
        (pytest.approx(-0.95), 2), (pytest.approx(-0.8), 1),
    ]  # fmt: skip
    assert scored.prompt_tokens == 3
    rendered = asked[0].body
    assert ("messages" in rendered) is served.instruct
    assert [ask.body["prompt"] for ask in asked[1:3]] == (["ab abc", "a"] if served.instruct else [" ab abc", " a"])


def test_an_echo_is_split_where_the_continuation_begins() -> None:
    def server(ask):
        assert ask.body["prompt"] == ["S\n\nU ab"]
        offsets, values = [0, 1, 3, 4, 6, 7], [None, -1.0, -1.0, -2.0, -4.0, -9.0]
        return {"choices": [{"index": 0, "logprobs": {"text_offset": offsets, "token_logprobs": values}}]}

    _, scored = talk(SCORINGS["echo"](BASE, PROMPT, [" ab"]), server)
    assert (scored.items[0].mean_logprob, scored.items[0].tokens, scored.prompt_tokens) == (-3.0, 2, 3)


def test_a_word_across_the_end_of_the_prompt_is_no_score() -> None:
    def server(_):
        return {"choices": [{"index": 0, "logprobs": {"text_offset": [0, 3, 5], "token_logprobs": [None, -1.0, -1.0]}}]}

    with pytest.raises(GarbageAnswerError, match="one word"):
        talk(SCORINGS["echo"](BASE, PROMPT, [" ab"]), server)


@pytest.mark.parametrize("way", ["prompt_logprobs", "input_logprobs"])
def test_an_empty_continuation_is_refused(way) -> None:
    with pytest.raises(InvalidInputError):
        talk(SCORINGS[way](CHAT, PROMPT, [" a", " "]), vllm)


VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.floats(allow_nan=True) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(
        st.sampled_from(["choices", "index", "prompt_logprobs", "8", "logprob", "meta_info", "input_token_logprobs",
                         "logprobs", "text_offset", "token_logprobs", "tokens"]),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(VALUES, st.sampled_from(sorted(SCORINGS)))
def test_whatever_is_answered_is_a_score_or_an_error_of_the_tree(value, way) -> None:
    def server(ask):
        return tokenizer(ask) if ask.path == "/tokenize" else value

    try:
        _, scored = talk(SCORINGS[way](BASE, PROMPT, [" a"]), server)
    except SafescaleError:
        return
    assert all(score.mean_logprob <= 0 for score in scored.items)


@given(VALUES)
def test_whatever_a_tokeniser_answers_is_an_error_of_the_tree(value) -> None:
    for way in (tokens, tgi_tokens):
        try:
            talk(way(BASE, ["a b"], 1), lambda _: value)
        except SafescaleError:
            continue


@given(st.lists(st.text(alphabet="abé ", max_size=12), max_size=3), st.integers(0, 4))
def test_cut_texts_are_prefixes_within_the_limit(texts, limit) -> None:
    known: dict[int, str] = {}

    def server(ask):
        if ask.path == "/tokenize":
            ids = []
            for index, character in enumerate(ask.body["prompt"]):
                number = ord(character) + 10_000 * (index == 0 and character == " ")
                known[number] = character
                ids.append(number)
            return {"tokens": ids}
        said = "".join(known[number] for number in ask.body["tokens"])
        # As some tokenizers do, the blank before a text is lost.
        return {"prompt": said.removeprefix(" ")}

    _, found = talk(tokens(BASE, texts, limit), server)
    assert found.counts == tuple(len(text) for text in texts)
    for text, prefix in zip(texts, found.truncated, strict=True):
        assert text.startswith(prefix)
        assert len(prefix) <= limit
        assert len(prefix) == min(limit, len(text)) or text.startswith(" ")
