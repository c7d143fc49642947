"""The log of the client: that of the standard library, under the name `safescale_client`."""

import logging


class Log:
    """Tells an event and its fields in a line."""

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(f"safescale_client.{name}")

    def warning(self, event: str, **fields: object) -> None:
        """Log a warning."""
        self._log.warning("%s %s", event, " ".join(f"{name}={value}" for name, value in fields.items()))


def get_logger(name: str) -> Log:
    """Log of a part."""
    return Log(name)
