"""Log-probabilities of a continuation from TGI's tokens of the prompt.

TGI gives the log-probability of each token of its prompt (`decoder_input_details`). So prompt and continuation are sent
as one prompt, and the tokens that reach into the continuation are its score. `/tokenize` gives their positions.
"""

from collections.abc import Awaitable, Callable, Sequence

from safescale.core.errors import BackendRefusedError, GarbageAnswerError
from safescale.inference.backends.port import Score
from safescale.inference.backends.tgi.wire import Prefilled, Rendered, Token

Tokenize = Callable[[str], Awaitable[tuple[Token, ...]]]
"""The tokens of a text as `/generate` would read it, those that the tokenizer adds included."""


async def chat_prefix(tokenize: Tokenize, rendered: Rendered, model: str) -> str:
    """Return the text that `/generate` reads as exactly the tokens of a rendered chat.

    `/generate` adds the tokenizer's own first token, which a chat template mostly writes itself: then it is left out.

    Raises:
        BackendRefusedError: no text gives these tokens.

    """
    wanted = _ids(rendered.tokens)
    read = await tokenize(rendered.text)
    if _ids(read) == wanted:
        return rendered.text
    added = next((index for index, token in enumerate(read) if token.stop > token.start), len(read))
    if added and wanted[:added] == _ids(read[:added]):
        text = rendered.text.encode()[rendered.tokens[added - 1].stop :].decode("utf-8", "replace")
        if text and _ids(await tokenize(text)) == wanted:
            return text
    raise BackendRefusedError(
        f"{model} cannot be scored through TGI: /generate reads its rendered chat as other tokens than the chat itself"
    )


def continuation_score(prefix: str, tokens: Sequence[Token], prefill: Sequence[Prefilled], model: str) -> Score:
    """Return the mean log-probability of those `tokens` (prefix and continuation) that reach beyond the prefix.

    A token over the border counts whole: the continuation cannot be written without it.

    Raises:
        GarbageAnswerError: the log-probabilities are of other tokens.
        BackendRefusedError: TGI gives none.

    """
    if _ids(tokens) != [token.token_id for token in prefill]:
        if not prefill:
            raise _none(model)
        raise GarbageAnswerError(f"TGI of {model} told log-probabilities of other tokens than those of the prompt")
    border = len(prefix.encode())
    reaching = [given.logprob for token, given in zip(tokens, prefill, strict=True) if token.stop > border]
    values = [value for value in reaching if value is not None]
    if not values or len(values) < len(reaching):
        raise _none(model)
    # Rounding can put the log-probability of a certain token a hair above 0.
    return Score(sum(min(value, 0.0) for value in values) / len(values), len(values))


def _none(model: str) -> BackendRefusedError:
    return BackendRefusedError(
        f"TGI of {model} gives no log-probabilities of prompts; expected a TGI with --enable-prefill-logprobs"
    )


def _ids(tokens: Sequence[Token]) -> list[int]:
    return [token.token_id for token in tokens]
