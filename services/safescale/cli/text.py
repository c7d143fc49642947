"""Text from elsewhere, for a terminal."""


def printable(text: str) -> str:
    """Text for a terminal: what is no text, or could steer the terminal, is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
