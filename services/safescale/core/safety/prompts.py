"""What a model is shown: the system and user message of a question, in the letter or the cloze formulation.

Whatever changes a rendered prompt by a single character changes `PROMPT_VERSION`, which is part of a run's manifest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PROMPT_VERSION = "1"

Formulation = Literal["letter", "cloze"]

LETTER_SYSTEM = (
    "You are an expert medical assistant. You answer a multiple-choice question with only the letter of the correct "
    "option and nothing else."
)
CLOZE_SYSTEM = "You are an expert medical assistant. You answer a question with the correct answer and nothing else."

# Marks with a bar, such as <|im_start|>, <channel|> or the full-width ones of DeepSeek, come in any number of names;
# the others are listed. A space within makes ordinary text of each, and removes nothing that a reader would miss.
_BAR_MARKS = re.compile(r"<(?=[|｜])|(?<=[|｜])(?=>)")
_NAMED_MARKS = re.compile(
    r"<(?=/?(?:s|pad|unk|bos|eos|mask|think|(?:start|end)_of_turn|(?:start|end)_of_image|unused\d+|reserved_\w+)>)"
    r"|<(?=<?/?SYS>>?)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK|IMG|CLS|SEP|MASK|PAD|UNK)\])",
    flags=re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Messages:
    """A rendered prompt: the system message and the user message."""

    system: str
    user: str


def neutralise_control_tokens(text: str) -> str:
    """Put a space inside each mark that a chat template could take for a control token (`<|…|>`, `[INST]`…).

    Model servers read such marks in user content as control tokens, so a passage could end the user's turn and speak as
    the system. Applying it twice changes nothing more.
    """
    # Nearly no text has a mark: to look for its first character costs a fraction of a search for the mark.
    if "|" in text or "｜" in text:
        text = _BAR_MARKS.sub(_spaced, text)
    if "<" in text or "[" in text:
        text = _NAMED_MARKS.sub(_spaced, text)
    return text


def _spaced(mark: re.Match[str]) -> str:
    return mark.group() + " "


def render(question_text: str, options: Mapping[str, str], context: str | None, formulation: Formulation) -> Messages:
    """Return the prompt of a question (protocol sections 2 and 4b).

    letter: optional context block, `Question:`, `Options:` with one `X. text` line per option in the order of the
    letters, `Answer:`. cloze: the options are not listed. An empty context is none. The user message ends in `Answer:`
    without a blank after it.
    """
    blocks = []
    if context and context.strip():
        blocks.append(f"Context:\n{neutralise_control_tokens(context.strip())}")
    blocks.append(f"Question:\n{neutralise_control_tokens(question_text.strip())}")
    if formulation == "letter":
        lines = [f"{letter}. {_one_line(text)}" for letter, text in sorted(options.items())]
        blocks.append("\n".join(["Options:", *lines]))
    blocks.append("Answer:")
    system = LETTER_SYSTEM if formulation == "letter" else CLOZE_SYSTEM
    return Messages(system, "\n\n".join(blocks))


def cloze_continuations(options: Mapping[str, str]) -> dict[str, str]:
    """Return the text to score for each option after a cloze prompt, by letter: a space, then the option."""
    return {letter: f" {_one_line(text)}" for letter, text in sorted(options.items())}


def auto_formulation(*, instruct: bool, parameters_b: float | None) -> Formulation:
    """Return what `auto` means: letter for instruct models above 1 B parameters, else cloze (section 4b).

    An instruct model of unknown size takes letter: those whose makers keep the size to themselves are large, and where
    one is not, what it cannot answer is counted as unanswered.
    """
    return "letter" if instruct and (parameters_b is None or parameters_b > 1) else "cloze"


def _one_line(text: str) -> str:
    # An option over several lines could feign a further option.
    return " ".join(neutralise_control_tokens(text).split())
