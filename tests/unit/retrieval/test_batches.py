from hypothesis import given
from hypothesis import strategies as st

from safescale.retrieval.batches import batched


def test_batches_are_bounded_in_number_and_weight() -> None:
    assert list(batched([1, 2, 3, 9, 1, 1, 1], 3, 5, lambda n: n)) == [[1, 2], [3], [9], [1, 1, 1]]
    assert list(batched([], 3, 5, lambda n: n)) == []


@given(items=st.lists(st.integers(0, 20)), most=st.integers(1, 5), heaviest=st.integers(1, 30))
def test_all_items_come_once_in_order_within_the_bounds(items: list[int], most: int, heaviest: int) -> None:
    batches = list(batched(items, most, heaviest, lambda n: n))
    assert [item for batch in batches for item in batch] == items
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert sum(batch) <= heaviest or len(batch) == 1
