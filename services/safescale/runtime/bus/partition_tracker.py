"""The partitions that a member of a Kafka group has, and the messages it took from them. Thread-safe.

The poll thread takes messages and commits, the event loop starts and finishes them; both use this class under one lock.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from safescale.runtime.bus.offsets import ContiguousOffsets
from safescale.runtime.bus.port import Message

Partition = tuple[str, int]
"""Topic and partition. kafka-python's TopicPartition is one."""

BUFFERED_BYTES = 16 * 1024 * 1024
"""Bytes of waiting messages at which no more are taken."""


def buffered_messages(max_in_flight: int) -> int:
    """Return how many messages a member may have waiting."""
    return max(64, 2 * max_in_flight)


@dataclass(eq=False)
class PartitionAssignment:
    """A partition from its assignment to its revocation; what is finished after that is never committed."""

    partition: Partition
    offsets: ContiguousOffsets = field(default_factory=ContiguousOffsets)
    abandoned: bool = False
    running: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A message that was taken, and its origin."""

    message: Message
    assignment: PartitionAssignment
    offset: int
    size: int


class PartitionTracker:
    """Partitions and messages of one member."""

    def __init__(self, max_in_flight: int) -> None:
        self._lock = threading.Lock()
        self._capacity = buffered_messages(max_in_flight)
        self._assignments: dict[Partition, PartitionAssignment] = {}
        self._buffered = 0
        self._bytes = 0
        self._largest = 1
        self._running = 0
        self._full = False
        self.has_room = threading.Event()
        """Set while messages may be taken; the poll thread waits on it."""
        self.has_room.set()

    @property
    def buffered(self) -> int:
        """Messages taken and not started."""
        return self._buffered

    @property
    def running(self) -> int:
        """Messages that handlers work on."""
        return self._running

    def room(self) -> int:
        """Messages that may be taken now; 0 from a full buffer on until it is half empty."""
        with self._lock:
            if self._full:
                return 0
            by_bytes = (BUFFERED_BYTES - self._bytes) // self._largest
            return max(1, min(self._capacity - self._buffered, by_bytes))

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Track partitions that were assigned."""
        with self._lock:
            self._assignments.update({partition: PartitionAssignment(partition) for partition in partitions})

    def take(self, message: Message, partition: Partition, offset: int, size: int) -> Work:
        """Note a message that was taken."""
        with self._lock:
            assignment = self._assignments.get(partition)
            if assignment is None:
                assignment = self._assignments[partition] = PartitionAssignment(partition)
            assignment.offsets.take(offset)
            self._buffered += 1
            self._bytes += size
            self._largest = max(self._largest, size)
            self._measure()
            return Work(message, assignment, offset, size)

    def start(self, work: Work) -> bool:
        """Move a message from waiting to running; False, and it is dropped, when its partition was given away."""
        with self._lock:
            self._buffered -= 1
            self._bytes -= work.size
            self._measure()
            if work.assignment.abandoned:
                return False
            self._running += 1
            work.assignment.running += 1
            return True

    def end(self, work: Work, finished: bool) -> None:
        """Note that a handler is done with a message, and whether the message is finished."""
        with self._lock:
            self._running -= 1
            work.assignment.running -= 1
            if finished:
                work.assignment.offsets.finish(work.offset)

    def to_commit(self, partitions: Iterable[Partition] | None = None) -> dict[Partition, int]:
        """Offsets to commit, of some partitions or of all."""
        with self._lock:
            chosen = (
                self._assignments
                if partitions is None
                else {p: self._assignments[p] for p in partitions if p in self._assignments}
            )
            found = {partition: assignment.offsets.to_commit() for partition, assignment in chosen.items()}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """Note that offsets were committed."""
        with self._lock:
            for partition, offset in offsets.items():
                if partition in self._assignments:
                    self._assignments[partition].offsets.committed(offset)

    def abandon_waiting(self, partitions: Iterable[Partition]) -> list[PartitionAssignment]:
        """Drop waiting messages of revoked partitions; running ones may still finish and be committed."""
        with self._lock:
            going = [self._assignments[partition] for partition in partitions if partition in self._assignments]
            for assignment in going:
                assignment.abandoned = True
            return going

    def drop(self, partitions: Iterable[Partition]) -> list[PartitionAssignment]:
        """Forget partitions: nothing of them is committed any more."""
        going = self.abandon_waiting(partitions)
        with self._lock:
            for assignment in going:
                self._assignments.pop(assignment.partition, None)
        return going

    def partitions(self) -> list[Partition]:
        """Partitions that this member has."""
        with self._lock:
            return list(self._assignments)

    def position(self, partition: Partition) -> int | None:
        """First unfinished offset of a partition; None when nothing was taken from it."""
        with self._lock:
            assignment = self._assignments.get(partition)
            return None if assignment is None else assignment.offsets.position

    def _measure(self) -> None:
        if self._buffered >= self._capacity or self._bytes >= BUFFERED_BYTES:
            self._full = True
            self.has_room.clear()
        elif self._full and self._buffered <= self._capacity // 2 and self._bytes <= BUFFERED_BYTES // 2:
            self._full = False
            self.has_room.set()
