"""Server-sent events, cut out of a byte stream."""


class SseParser:
    """Parser of the data of server-sent events; comments and fields other than data are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    @property
    def waiting(self) -> int:
        """Bytes of the line that has not ended yet."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk completes, the lines of one joined by a line feed."""
        # A CR at the end of a chunk may be half of a CRLF, so it waits for the next one.
        text = self._rest + chunk
        held = text.endswith(b"\r")
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if held else b"")
        return [event for line in lines if (event := self._line(line)) is not None]

    def end(self) -> list[bytes]:
        """Return the data of a last event whose lines are complete but which no blank line ended."""
        events = self.feed(b"\n") if self._rest.endswith(b"\r") else []
        last = self._line(b"")
        return events if last is None else [*events, last]

    def _line(self, line: bytes) -> bytes | None:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return None
        if not self._data:
            return None
        event = b"\n".join(self._data)
        self._data = []
        return event
