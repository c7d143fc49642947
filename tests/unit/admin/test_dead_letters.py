import pytest

pytest.importorskip("kafka")
from datetime import UTC, datetime

from safescale.admin.dead_letters import DeadLetter, check_replayable, parse_id, restored
from safescale.core.errors import AlreadyExistsError, FailedPreconditionError, GarbageAnswerError, InvalidInputError
from safescale.runtime.bus.delivery import dead_letter
from safescale.runtime.bus.port import Message

MESSAGE = Message("t", "k", b"\x00v", {"run-id": "r", "attempt": "2", "traceparent": "x"})
DEAD = dead_letter(MESSAGE, GarbageAnswerError("broken"), {"group": "g", "attempts": "3", "original-offset": "1"})


def letter(message: Message = DEAD, replayed_at: str = "") -> DeadLetter:
    return DeadLetter(0, 7, datetime(2026, 1, 1, tzinfo=UTC), message, replayed_at)


def test_a_restored_message_is_the_original_and_its_count() -> None:
    assert restored(DEAD) == Message("t", "k", b"\x00v", {**MESSAGE.headers, "replays": "1"})


def test_each_replay_is_counted() -> None:
    again = dead_letter(restored(DEAD), GarbageAnswerError("broken"), {"group": "g"})
    assert restored(again).headers["replays"] == "2"


def test_a_dead_letter_can_be_replayed_once() -> None:
    check_replayable(letter())
    with pytest.raises(AlreadyExistsError, match="0:7 was replayed at yesterday"):
        check_replayable(letter(replayed_at="yesterday"))
    check_replayable(letter(replayed_at="yesterday"), again=True)


def test_a_dead_letter_without_its_value_or_topic_cannot_be_replayed() -> None:
    large = dead_letter(Message("t", "k", b"x" * 3_000_000), GarbageAnswerError("broken"), {"original-partition": "4"})
    with pytest.raises(FailedPreconditionError, match=r"3,000,000 bytes.*in t, partition 4"):
        check_replayable(letter(large))
    with pytest.raises(FailedPreconditionError, match="topic"):
        check_replayable(letter(Message("d", "k", b"")))


def test_ids_are_partition_and_offset() -> None:
    assert parse_id("3:14") == (3, 14)
    for wrong in ("", "3", "3:", ":4", "a:b", "-1:4"):
        with pytest.raises(InvalidInputError, match="partition:offset"):
            parse_id(wrong)
