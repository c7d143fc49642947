"""What of a run is missing."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from safescale.core.safety.completeness import NAMED, PlannedCells, RunCompleteness, completeness

MODELS, CONDITIONS, QUESTIONS = ("m1", "m2"), ("zero_shot", "top_1"), ("q1", "q2", "q3")
ASKED = PlannedCells(MODELS, CONDITIONS, QUESTIONS)
ALL = list(product(MODELS, CONDITIONS, QUESTIONS))


def found(cells, asked: PlannedCells = ASKED, state: str = "completed", known=QUESTIONS) -> RunCompleteness:
    return completeness(asked, cells, state, known)


def test_a_run_with_all_its_verdicts_is_complete() -> None:
    whole = found(ALL)
    assert (whole.planned, whole.skipped, whole.unfinished, whole.complete, whole.missing) == (12, 0, 0, True, ())


def test_a_run_under_way_is_not_complete_though_nothing_is_missing() -> None:
    for state in ("running", "cancelled", "failed", "unspecified"):
        assert found(ALL, state=state).missing == (f"The run is {state}, not completed.",)


def test_each_place_that_lacks_verdicts_is_named_with_how_many() -> None:
    lacking = found([cell for cell in ALL if cell != ("m1", "top_1", "q2")])
    assert (lacking.unfinished, lacking.complete) == (1, False)
    assert lacking.missing == ("m1 under top_1: 1 of 3 questions have no verdict: q2.",)


def test_a_model_and_a_condition_without_any_verdict_are_named_once() -> None:
    assert found([cell for cell in ALL if cell[0] == "m1"]).missing == ("The model m2 has no verdict.",)
    assert found([cell for cell in ALL if cell[1] == "top_1"]).missing == ("The condition zero_shot has no verdict.",)
    assert found([]).missing == ("The model m1 has no verdict.", "The model m2 has no verdict.")


def test_skips_count_cell_by_cell_and_an_empty_question_stands_for_all() -> None:
    skips = [
        ("m1", "top_1", "", "too long"), ("m1", "top_1", "q1", "again"), ("m2", "top_1", "q3", "no context"),
        ("m2", "top_1", "q3", "twice"), ("m9", "top_1", "", "no model of the run"), ("m2", "top_1", "q9", "none"),
    ]  # fmt: skip
    asked = PlannedCells(MODELS, CONDITIONS, QUESTIONS, skips)
    skipped = {("m1", "top_1", question) for question in QUESTIONS} | {("m2", "top_1", "q3")}
    whole = found([cell for cell in ALL if cell not in skipped], asked)
    assert (whole.planned, whole.skipped, whole.complete) == (12, 4, True)
    assert whole.skipped_places == {("m1", "top_1"): "too long"}


def test_a_verdict_goes_before_a_skip_of_its_cell() -> None:
    asked = PlannedCells(("m1",), ("top_1",), ("q1", "q2"), [("m1", "top_1", "", "too long")])
    whole = found([("m1", "top_1", "q1")], asked)
    assert (whole.skipped, whole.unfinished, whole.skipped_places) == (1, 0, {})


def test_where_every_question_is_skipped_one_by_one_the_place_is_skipped() -> None:
    asked = PlannedCells(
        ("m1",), ("top_1",), ("q1", "q2"), [("m1", "top_1", "q1", "first"), ("m1", "top_1", "q2", "second")]
    )
    assert found([], asked).skipped_places == {("m1", "top_1"): "first"}


def test_verdicts_that_the_run_does_not_have_and_those_that_are_there_twice_are_told() -> None:
    odd = found([*ALL, ("m3", "top_1", "q1"), ("m1", "top_1", "q9"), ALL[0]])
    assert (odd.stray, odd.twice, odd.unfinished) == (2, 1, 0)
    assert odd.missing == (
        "There are 2 cells with a verdict that the run does not have: m3/top_1/q1, m1/top_1/q9.",
        "There is 1 cell with more than one verdict of the same attempt.",
    )


def test_stray_verdicts_do_not_stand_for_those_that_are_missing() -> None:
    moved = [("m3", *cell[1:]) if cell == ("m1", "top_1", "q1") else cell for cell in ALL]
    assert len(moved) == len(ALL)
    assert not found(moved).complete


def test_questions_that_the_benchmark_lacks_are_told() -> None:
    assert found(ALL, known=("q1", "q2")).missing == ("1 questions of the run are not in its benchmark: q3.",)


def test_a_run_without_cells_is_not_complete() -> None:
    for asked in (
        PlannedCells((), CONDITIONS, QUESTIONS),
        PlannedCells(MODELS, (), QUESTIONS),
        PlannedCells(MODELS, CONDITIONS, ()),
    ):
        assert (found([], asked).planned, found([], asked).complete) == (0, False)


def test_long_lists_are_cut_and_counted() -> None:
    models = [f"m{number}" for number in range(NAMED + 5)]
    asked = PlannedCells(models, ("top_1",), [f"q{number}" for number in range(9)])
    missing = found([(model, "top_1", "q0") for model in models], asked, known=asked.question_ids).missing
    assert missing[0] == "m0 under top_1: 8 of 9 questions have no verdict: q1, q2, q3 and 5 more."
    assert (len(missing), missing[-1]) == (NAMED + 1, "5 more models and conditions lack verdicts.")


@given(st.sets(st.sampled_from(ALL)), st.sets(st.sampled_from(ALL)))
def test_verdicts_skips_and_what_is_left_are_the_plan(ended, skipped) -> None:
    asked = PlannedCells(MODELS, CONDITIONS, QUESTIONS, [(*cell, "why") for cell in skipped])
    one = found(sorted(ended), asked)
    assert len(ended) + one.skipped + one.unfinished == one.planned == len(ALL)
    assert one.complete == (ended | skipped == set(ALL))
