"""What reviews say, found by cell."""

from safescale.core.safety.cells import Cell
from safescale.scoring.settled import RunReviews, take_review

CELL = Cell("run-1", "m", "top_1", "q0")


def body(**changes) -> dict:
    key = {"run_id": "run-1", "model": "m", "condition": "top_1", "question_id": "q0"}
    return {"cell": key, "attempt": 2, "reason": "NO_ANSWER"} | changes


def taken(*bodies: dict) -> RunReviews:
    found: RunReviews = {}
    for each in bodies:
        take_review(found, each)
    return found


def test_letters_of_persons_are_found_by_cell_attempt_and_sample() -> None:
    found = taken(
        body(), body(resolved=True, resolved_letter="C"), body(resolved=True, sample_index=3),
        body(resolved=True, resolved_letter="A", attempt=1),
    )  # fmt: skip
    assert found == {(CELL, 2): {None: "C", 3: "-"}, (CELL, 1): {None: "A"}}


def test_a_review_without_a_cell_belongs_to_none() -> None:
    assert CELL not in {cell for cell, _ in taken({"review_id": "old", "resolved": True})}
