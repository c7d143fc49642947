import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.oracle import drop_null_vote, null_ballot_vote

from safescale.core.safety.answers.vote import ABSENT, NULL, RULES, Rule, ballot_counts, vote, vote_array

BALLOTS = st.lists(st.sampled_from(["A", "B", "C", "D", None]), max_size=8)


@pytest.mark.parametrize(
    ("ballots", "null_ballot", "drop_null"),
    [
        ([], None, None),
        ([None, None], None, None),
        (["B"], "B", "B"),
        (["C", "B", "B", "C"], "B", "C"),
        (["B", None], None, "B"),
        (["B", None, None], None, "B"),
        (["B", "B", None], "B", "B"),
        (["D", "A", None, "A", None, "D"], None, "D"),
    ],
)
def test_nulls_and_ties(ballots: list[str | None], null_ballot: str | None, drop_null: str | None) -> None:
    assert vote(ballots, "null_ballot") == null_ballot
    assert vote(ballots, "drop_null") == drop_null


@given(BALLOTS)
def test_a_vote_is_the_definition(ballots: list[str | None]) -> None:
    assert vote(ballots, "null_ballot") == null_ballot_vote(ballots)
    assert vote(ballots, "drop_null") == drop_null_vote(ballots)


@given(st.lists(BALLOTS, min_size=1, max_size=6), st.sampled_from(RULES), st.booleans())
def test_votes_of_arrays_are_votes(rows: list[list[str | None]], rule: Rule, shared: bool) -> None:
    length = max(map(len, rows))
    samples = np.full((len(rows), length), ABSENT, dtype=np.int8)
    for row, ballots in enumerate(rows):
        samples[row, : len(ballots)] = [NULL if ballot is None else ord(ballot) - 65 for ballot in ballots]
    found = vote_array(samples, rule, ballot_counts(samples) if shared else None)
    expected = [vote(ballots, rule) for ballots in rows]
    assert found.dtype == np.int8
    assert [None if code == NULL else chr(65 + code) for code in found.tolist()] == expected


def test_counts_leave_out_what_was_not_attempted() -> None:
    samples = np.array([[0, 2, NULL, ABSENT], [ABSENT] * 4], dtype=np.int8)
    assert ballot_counts(samples).tolist() == [[1, 0, 1, 1], [0, 0, 0, 0]]


@given(BALLOTS, st.randoms(use_true_random=False))
def test_with_nulls_as_ballots_the_order_does_not_matter(ballots: list[str | None], rng: object) -> None:
    shuffled = list(ballots)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert vote(shuffled, "null_ballot") == vote(ballots, "null_ballot")
