"""How a rendered prompt is handed to a server: as the messages of a chat, or as one text for a base model."""

from safescale.core.safety.prompts import Messages

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def chat_messages(messages: Messages) -> list[dict[str, str]]:
    """Return the messages of a chat; an empty system message is left out."""
    system = [{"role": "system", "content": messages.system}] if messages.system else []
    return [*system, {"role": "user", "content": messages.user}]


def plain_prompt(messages: Messages) -> str:
    """Return the text that a base model continues."""
    return "\n\n".join(part for part in (messages.system, messages.user) if part)


def continuation(text: str, *, instruct: bool) -> str:
    """Return the part of a continuation that is scored: a chat answer begins a turn, without a leading blank."""
    return text.removeprefix(" ") if instruct else text
