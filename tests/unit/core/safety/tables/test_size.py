"""How much memory an analysis takes."""

import pytest

from safescale.core.errors import LimitExceededError
from safescale.core.safety.tables.size import MAX_BYTES, check_size, needed_bytes


def test_the_papers_study_and_ten_times_its_questions_fit() -> None:
    check_size(26, 8, 360, 20)
    check_size(34, 11, 3600, 20)
    assert needed_bytes(26, 8, 360, 20) < MAX_BYTES / 10


@pytest.mark.parametrize(
    "sizes", [(100, 100, 100, 1000), (450, 1, 1, 0), (1, 1, 30_000, 0), (1000, 1000, 1000, 0), (26, 8, 360, 100_000)]
)
def test_what_spans_too_much_is_refused_with_its_numbers(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(LimitExceededError, match=f"{sizes[0]:,} models.*the limit is 768 MB"):
        check_size(*sizes)
