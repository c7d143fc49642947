"""Checks of answers that every adapter makes: whether a text was cut short, and the prompt read whole."""

import re
from collections.abc import Sequence

from safescale.core.errors import AnswerCutError, PromptCutError
from safescale.core.safety.prompts import Messages, neutralise_control_tokens
from safescale.inference.backends.port import Output

PROMPT_MAYBE_CUT = "PROMPT_MAYBE_CUT"
"""Warning: the server reported so few tokens of a prompt that it may have read less of it, or reports none."""

FEW_TOKENS = 8
FEW_PERCENT = 2
"""Tokens, or per cent of our own count, by which a server may report fewer: chat templates differ by that much."""

PLAUSIBLE_CHARACTERS = 200
"""Characters from which on the tokens of a prompt are held against its length, where there is no tokenizer."""

_RUNS = re.compile(r"([\W_])\1{2,}")
"""A row of blanks, dots or lines, such as in a table, which is one token whatever its length; so it counts as one."""

NO_TEXT = 16
ODD_TEXT = 8
"""Characters for a token: no tokenizer has so many over a whole text; and hardly any has so many."""


def check_whole(model: str, outputs: Sequence[Output], asked: int) -> None:
    """Refuse texts of one call that the server ended by their length before the `asked` tokens of each.

    Servers report the tokens of a call's texts together, so those that were cut must reach their sum at least.

    Raises:
        AnswerCutError: a text was cut; it does not answer the request.

    """
    cut = sum(output.finish_reason == "length" for output in outputs)
    generated = sum(output.generated_tokens for output in outputs)
    if cut and generated < cut * asked:
        each = f"{generated:,}" if len(outputs) == 1 else f"{generated // cut:,} at most"
        raise AnswerCutError(
            f"the server of {model} ended an answer after {each} of {asked:,} tokens: give it room for the longest "
            "prompt and the whole answer (its context window, its limit of new tokens)"
        )


def check_prompt(model: str, messages: Messages, told: int, counted: int | None) -> tuple[str, ...]:
    """Return warnings about a prompt of which the server reported so many tokens; `counted` by its tokenizer, or None.

    With a tokenizer, fewer than counted (by more than 8 tokens and 2 %) is a cut prompt. Without one, from 200
    characters on, rows of one blank or sign counted once: fewer than a token for 16 characters is a cut prompt, fewer
    than one for 8, or none, is a warning.

    Raises:
        PromptCutError: the server read less than was sent.

    """
    # Where a text contains the mark of a control token, a tokenizer may count its pieces and the model read one token.
    marked = any(neutralise_control_tokens(text) != text for text in (messages.system, messages.user))
    if counted is not None and told and not marked:
        if told < counted - max(FEW_TOKENS, counted * FEW_PERCENT // 100):
            raise PromptCutError(
                f"the server of {model} read {told:,} tokens of a prompt that its own tokenizer counts as {counted:,}: "
                "it cuts prompts; raise its context window"
            )
        return ()
    written = len(messages.system) + len(messages.user)
    characters = sum(len(_RUNS.sub(r"\1", text)) for text in (messages.system, messages.user))
    if characters < PLAUSIBLE_CHARACTERS or told * ODD_TEXT >= characters:
        return ()
    if told and told * NO_TEXT < characters:
        raise PromptCutError(
            f"the server of {model} read {told:,} tokens of a prompt of {written:,} characters, which cannot be all "
            "of it: it cuts prompts, or tells their tokens wrongly; raise its context window"
        )
    return (PROMPT_MAYBE_CUT,)
