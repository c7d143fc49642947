"""Hands out a streamed text up to its first stop text, and holds back what may become one."""

from collections.abc import Sequence

from safescale.inference.backends.tgi.wire import first_stop


class StopGate:
    """Takes the pieces of one text as they come and gives those that are surely before every stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._text = ""
        self._given = 0
        self._shut = False

    def feed(self, piece: str) -> str:
        """Take a piece; what can be handed out now, often the same."""
        if self._shut:
            return ""
        self._text += piece
        cut = first_stop(self._text, self._stops)
        if cut is not None:
            self._shut = True
            return self._give(cut)
        return self._give(len(self._text) - self._held())

    def rest(self, whole: str) -> str:
        """Return what is left to hand out of the whole text, once that is known."""
        return whole[self._given :] if whole.startswith(self._text[: self._given]) else ""

    def _give(self, until: int) -> str:
        begin, self._given = self._given, max(self._given, until)
        return self._text[begin : self._given]

    def _held(self) -> int:
        """Length of the longest end of the text that is the beginning of a stop text."""
        longest = max((len(stop) for stop in self._stops), default=0) - 1
        for length in range(min(longest, len(self._text)), 0, -1):
            if any(stop.startswith(self._text[-length:]) for stop in self._stops):
                return length
        return 0
