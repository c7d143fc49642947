"""Which offset of a partition may be committed: the one below which every message is finished."""

from collections import deque


class ContiguousOffsets:
    """Offsets taken from one partition in rising order (gaps are allowed) and finished in any order."""

    def __init__(self) -> None:
        self._taken: deque[int] = deque()
        self._finished: set[int] = set()
        self._next: int | None = None
        self._committed: int | None = None

    def take(self, offset: int) -> None:
        """Note that the message at an offset was taken.

        Raises:
            ValueError: the offset is not above all taken before.

        """
        if self._next is not None and offset < self._next:
            raise ValueError(f"offset {offset} was taken after {self._next - 1}")
        if self._next is None:
            self._committed = offset
        self._taken.append(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """Note that the message at a taken offset is finished; again is no harm."""
        if not self._taken or offset < self._taken[0]:
            return
        self._finished.add(offset)
        while self._taken and self._taken[0] in self._finished:
            self._finished.discard(self._taken.popleft())

    @property
    def position(self) -> int | None:
        """Offset that a new reader would have to start from; None before the first message."""
        return self._taken[0] if self._taken else self._next

    @property
    def unfinished(self) -> int:
        """Messages taken and not finished."""
        return len(self._taken) - len(self._finished)

    def to_commit(self) -> int | None:
        """Offset to commit; None when nothing is finished beyond what is committed."""
        return None if self.position == self._committed else self.position

    def committed(self, offset: int) -> None:
        """Note that an offset was committed."""
        self._committed = offset
