import pytest

from safescale.core.errors import LimitExceededError
from safescale.runtime.bus.limits import DEAD_LETTER_LIMIT, MESSAGE_LIMIT, check_size, size_of
from safescale.runtime.bus.port import Message
from safescale.runtime.bus.topics import DEAD_LETTER


def test_key_value_and_headers_count() -> None:
    assert size_of(Message("t", "four", b"123", {"ab": "c"})) == 10


def test_characters_of_several_bytes_count_as_such() -> None:
    assert size_of(Message("t", "ä", b"", {"ö": "é"})) == 6


def test_the_limit_itself_is_allowed_and_one_more_is_not() -> None:
    assert check_size(Message("t", "", b"x" * MESSAGE_LIMIT)) == MESSAGE_LIMIT
    with pytest.raises(LimitExceededError, match=r"1,048,577 bytes; at most 1,048,576"):
        check_size(Message("t", "k", b"x" * MESSAGE_LIMIT))


def test_a_dead_letter_may_be_larger_by_what_is_told_of_its_failure() -> None:
    assert check_size(Message(DEAD_LETTER, "", b"x" * DEAD_LETTER_LIMIT)) > MESSAGE_LIMIT
