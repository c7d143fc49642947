"""Requests to llama.cpp and the reading of its answers, for a server in this process and one behind HTTP. No I/O.

`cold` calls evaluate the whole prompt anew; the others use what the slot holds of it. The slot's state decides the last
digits of a log-probability: see the cache rule of `llama.backend`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from safescale.core.errors import GarbageAnswerError, InvalidInputError, PromptTooLongError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.llama.grammar import Token, forcing_grammar, stand_alone
from safescale.inference.backends.messages import CHAT, COMPLETIONS, chat_messages, continuation, plain_prompt
from safescale.inference.backends.port import Sampling, Score, Tokens
from safescale.inference.backends.steps import Ask, Steps, field

TOKENIZE = "/tokenize"
TEMPLATE = "/apply-template"

DEPTHS = (4096, 10_000_000)
"""Lengths of the list of most probable tokens that are tried; the second is any vocabulary."""


class LlamaProtocol:
    """The conversations about one model."""

    def __init__(self, model: str, instruct: bool) -> None:
        self._model = model
        self._instruct = instruct

    @property
    def path(self) -> str:
        """Path at which texts are requested."""
        return CHAT if self._instruct else COMPLETIONS

    def ask(self, messages: Messages, sampling: Sampling, *, cold: bool) -> Ask:
        """Return the request for one text."""
        if not self._instruct:
            return _completion(plain_prompt(messages), sampling, cold)
        return Ask(CHAT, {**_drawing(sampling, cold), "messages": chat_messages(messages)})

    def pieces(self, texts: Sequence[str]) -> Steps[list[list[Token]]]:
        """Return the tokens of each text: ids and bytes. Marks of control tokens are read as plain text.

        Raises:
            GarbageAnswerError: the tokens do not add up to the text.

        """
        found = []
        for text in texts:
            tokens: list[Token] = []
            if text:
                tokens = yield from self._pieces(text)
            found.append(tokens)
        return found

    def _pieces(self, text: str) -> Steps[list[Token]]:
        body = {"content": text, "add_special": False, "parse_special": False, "with_pieces": True}
        tokens = field((yield Ask(TOKENIZE, body)), "tokens")
        try:
            found = [(int(token["id"]), _bytes(token["piece"])) for token in tokens]
        except (ValueError, KeyError, TypeError) as error:
            raise GarbageAnswerError(f"the tokenizer of {self._model} gave no tokens") from error
        return self._aligned(found, text)

    def _aligned(self, found: list[Token], text: str) -> list[Token]:
        joined = b"".join(piece for _, piece in found)
        wanted = text.encode()
        if joined == b" " + wanted and found:
            # Some tokenizers put a blank before every text.
            return [(found[0][0], found[0][1][1:]), *found[1:]]
        if joined != wanted:
            raise GarbageAnswerError(f"the tokens of {self._model} do not add up to the text")
        return found

    def tokens(self, texts: Sequence[str], truncate_to: int | None) -> Steps[Tokens]:
        """Return token counts; with a limit also the longest prefixes within it."""
        pieces = yield from self.pieces(texts)
        counts = tuple(len(found) for found in pieces)
        if truncate_to is None:
            return Tokens(counts, ())
        cut = []
        for text, found in zip(texts, pieces, strict=True):
            whole = len(found) <= truncate_to
            cut.append(text if whole else (yield from self._prefix([piece for _, piece in found], truncate_to)))
        return Tokens(counts, tuple(cut))

    def _prefix(self, pieces: Sequence[bytes], limit: int) -> Steps[str]:
        # A character can span tokens, and a prefix can have more tokens than it had inside the text: try shorter ones.
        for keep in range(limit, 0, -1):
            text = b"".join(pieces[:keep]).decode("utf-8", "ignore")
            (found,) = yield from self.pieces([text])
            if len(found) <= limit:
                return text
        return ""

    def to_score(self, continuations: Sequence[str]) -> Steps[list[list[Token]]]:
        """Return the tokens of the continuations.

        Raises:
            InvalidInputError: one is empty.

        """
        tokens = yield from self.pieces([continuation(text, instruct=self._instruct) for text in continuations])
        if not all(tokens):
            raise InvalidInputError("an empty continuation cannot be scored")
        return tokens

    def scores(self, messages: Messages, prompt_tokens: int, texts: Sequence[Sequence[Token]]) -> Steps[list[Score]]:
        """Score continuations given as tokens, after a prompt of so many tokens that the slot holds."""
        items = []
        for tokens in texts:
            values = yield from self.forced(messages, prompt_tokens, tokens)
            items.append(Score(sum(values) / len(values), len(values)))
        return items

    def forced(self, messages: Messages, prompt_tokens: int, tokens: Sequence[Token]) -> Steps[list[float]]:
        """Return the natural log-probabilities of these tokens after a primed prompt, by the model's own distribution.

        A grammar leaves one token at each place; the log-probabilities are those before the grammar.
        """
        alone = stand_alone(tokens)
        if not all(alone):
            return (yield from self._stepwise(messages, prompt_tokens, tokens, alone))
        ask = self.ask(messages, Sampling(0.0, len(tokens)), cold=False)
        ask.body["grammar"] = forcing_grammar(tokens)
        ask.body.update({"logprobs": True, "top_logprobs": 1} if self._instruct else {"logprobs": 1})
        steps = self._read((yield ask))[: len(tokens)]
        if [token for token, _ in steps] != [token for token, _ in tokens]:
            raise GarbageAnswerError(f"{self._model} wrote other tokens than those forced")
        return [value for _, value in steps]

    def _stepwise(
        self, messages: Messages, prompt_tokens: int, tokens: Sequence[Token], alone: Sequence[bool]
    ) -> Steps[list[float]]:
        """Do as `forced`, one call per token: llama.cpp does not report tokens that end within a character.

        The tokens before are part of the prompt. One that cannot be forced is looked up in the list of the most
        probable ones, which goes on to the whole vocabulary where it must.
        """
        prompt = yield from self._rendered(messages)
        values = []
        for index, (token, _) in enumerate(tokens):
            before = [number for number, _ in tokens[:index]]
            ask = _completion([prompt, *before], Sampling(0.0, 1), cold=False)
            depths: tuple[int, ...] = DEPTHS
            if alone[index]:
                ask.body["grammar"], depths = forcing_grammar([tokens[index]]), (1,)
            found: dict[int, float] = {}
            for depth in depths:
                answer = yield Ask(COMPLETIONS, {**ask.body, "logprobs": depth})
                if field(answer, "usage", "prompt_tokens") != prompt_tokens + index:
                    raise GarbageAnswerError(f"{self._model} read another prompt than the one primed")
                found = dict(self._read(answer, listed=not alone[index]))
                if token in found:
                    break
            if token not in found:
                raise GarbageAnswerError(f"{self._model} gave no log-probability of a token")
            values.append(found[token])
        return values

    def _read(self, answer: object, *, listed: bool = False) -> list[tuple[int, float]]:
        """Read tokens and log-probabilities of an answer: of the tokens written, or those listed for the first."""
        steps = field(answer, "choices", 0, "logprobs", "content")
        if listed:
            steps = field(steps, 0, "top_logprobs")
        try:
            # Rounding can put the log-probability of a certain token a hair above 0.
            found = [(int(step["id"]), min(float(step["logprob"]), 0.0)) for step in steps]
        except (TypeError, KeyError, ValueError) as error:
            raise GarbageAnswerError(f"{self._model} gave no log-probabilities") from error
        if any(math.isnan(value) for _, value in found):
            raise GarbageAnswerError(f"{self._model} gave a log-probability that is not a number")
        return found

    def _rendered(self, messages: Messages) -> Steps[str]:
        if not self._instruct:
            return plain_prompt(messages)
        prompt = field((yield Ask(TEMPLATE, {"messages": chat_messages(messages)})), "prompt")
        if not isinstance(prompt, str):
            raise GarbageAnswerError(f"{self._model} gave no rendered prompt")
        return prompt


def too_long(model: str, prompt_tokens: int, window_tokens: int) -> PromptTooLongError:
    """Return the error of a prompt over the context, with both numbers."""
    return PromptTooLongError(
        f"the prompt has {prompt_tokens:,} tokens; the context window of {model} holds {window_tokens:,}",
        details={"prompt_tokens": str(prompt_tokens), "window_tokens": str(window_tokens)},
    )


def refused_length(model: str, error: Mapping[str, Any], window_tokens: int) -> PromptTooLongError | None:
    """Return the error of a prompt over the context if llama.cpp's error object reports one."""
    if error.get("type") != "exceed_context_size_error":
        return None
    return too_long(model, error.get("n_prompt_tokens", 0), error.get("n_ctx", window_tokens))


def _completion(prompt: str | list[str | int], sampling: Sampling, cold: bool) -> Ask:
    return Ask(COMPLETIONS, {**_drawing(sampling, cold), "prompt": prompt})


def _drawing(sampling: Sampling, cold: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_new_tokens,
        "cache_prompt": not cold,
    }
    if not sampling.greedy:
        # The model's own distribution: llama.cpp would cut it by default (top_k, top_p, min_p).
        body.update(seed=sampling.seed, top_k=0, top_p=1.0, min_p=0.0)
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _bytes(piece: object) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)  # type: ignore[call-overload]
