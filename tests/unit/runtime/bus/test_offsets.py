import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.runtime.bus.offsets import ContiguousOffsets


def test_before_the_first_message_there_is_nothing_to_commit() -> None:
    offsets = ContiguousOffsets()
    assert (offsets.position, offsets.to_commit(), offsets.unfinished) == (None, None, 0)


def test_the_position_stops_at_the_first_unfinished_message() -> None:
    offsets = ContiguousOffsets()
    for offset in (7, 8, 9):
        offsets.take(offset)
    offsets.finish(8)
    offsets.finish(9)
    assert (offsets.position, offsets.to_commit(), offsets.unfinished) == (7, None, 1)
    offsets.finish(7)
    assert (offsets.position, offsets.to_commit(), offsets.unfinished) == (10, 10, 0)
    offsets.committed(10)
    assert offsets.to_commit() is None


def test_gaps_in_the_offsets_are_no_messages() -> None:
    offsets = ContiguousOffsets()
    offsets.take(3)
    offsets.take(10)
    offsets.finish(3)
    assert offsets.to_commit() == 10


def test_an_offset_is_taken_once() -> None:
    offsets = ContiguousOffsets()
    offsets.take(3)
    with pytest.raises(ValueError, match="offset 3"):
        offsets.take(3)


@st.composite
def histories(draw):
    """Offsets with gaps, and the order in which some of them are finished, mixed with the taking."""
    gaps = draw(st.lists(st.integers(1, 4), min_size=1, max_size=30))
    taken = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    waiting, steps = [], []
    for offset in taken:
        steps.append(("take", offset))
        waiting.append(offset)
        ended = draw(st.permutations(waiting))[: draw(st.integers(0, 3))]
        waiting = [offset for offset in waiting if offset not in ended]
        steps += [("finish", offset) for offset in ended]
        if draw(st.booleans()):
            steps.append(("commit", 0))
    return steps


@given(histories())
def test_nothing_unfinished_is_ever_below_what_is_committed(steps) -> None:
    offsets = ContiguousOffsets()
    taken: list[int] = []
    finished: set[int] = set()
    last = 0
    for step, offset in steps:
        if step == "take":
            offsets.take(offset)
            taken.append(offset)
        elif step == "finish":
            offsets.finish(offset)
            finished.add(offset)
        else:
            found = offsets.to_commit()
            if found is not None:
                offsets.committed(found)
                assert found > last
                last = found
        open_ones = [o for o in taken if o not in finished]
        assert offsets.position == (open_ones[0] if open_ones else taken[-1] + 1)
        assert offsets.unfinished == len(open_ones)
        assert all(o >= last for o in open_ones)
