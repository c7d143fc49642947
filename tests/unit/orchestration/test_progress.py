"""The counts that progress keeps are those of the units, whatever happened in whatever order."""

from hypothesis import given
from hypothesis import strategies as st

from safescale.orchestration.kinds.port import Unit, UnitOutcome
from safescale.orchestration.kinds.safety_work import outcome_of
from safescale.orchestration.progress import RunProgress
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2

MODELS, CONDITIONS, QUESTIONS = ("a", "b"), ("zero_shot", "top_1"), ("q1", "q2", "q3")
STEPS = st.tuples(
    st.sampled_from(["known", "end", "fail", "skip", "skip all"]),
    st.sampled_from(MODELS),
    st.sampled_from(CONDITIONS),
    st.sampled_from(QUESTIONS),
)


@given(st.lists(STEPS, max_size=30))
def test_counts_are_those_of_the_units(steps) -> None:
    progress = RunProgress({(model, condition): QUESTIONS for condition in CONDITIONS for model in MODELS})
    ended: dict[Unit, bool] = {}
    skipped: set[Unit] = set()
    for what, model, condition, question in steps:
        unit = Unit((model, condition), question)
        if what.startswith("skip"):
            named = [question] if what == "skip" else list(QUESTIONS)
            progress.skip(pb.Skip(model=model, condition=condition, question_id=question if what == "skip" else ""))
            skipped |= {Unit((model, condition), each) for each in named} - ended.keys()
        else:
            if what == "known":
                progress.known_before(unit, failed=False)
            else:
                progress.end(UnitOutcome(unit, 1, common_pb2.Failure(reason="X") if what == "fail" else None))
            ended.setdefault(unit, what == "fail")
            skipped.discard(unit)
    rows = {(row.model, row.condition): row for row in progress.message(0).cells}
    for (model, condition), row in rows.items():
        here = [unit for unit in ended if unit.group == (model, condition)]
        left = [unit for unit in skipped if unit.group == (model, condition)]
        assert (row.completed, row.failed) == (len(here), sum(ended[unit] for unit in here))
        assert (row.skipped, row.planned) == (len(left), len(QUESTIONS) - len(left))
    assert progress.complete == (len(ended) + len(skipped) == 12)


def test_units_come_item_by_item_also_of_groups_that_differ() -> None:
    progress = RunProgress({("a", "x"): ("1", "2"), ("b", "x"): ("1",), ("c", ""): ()})
    assert [unit.label for unit in progress.units()] == ["a / x / 1", "b / x / 1", "a / x / 2"]


def test_tokens_count_the_prompt_as_often_as_it_was_sent() -> None:
    progress = RunProgress({("a", "zero_shot"): QUESTIONS})
    usages = {
        "q1": common_pb2.Usage(prompt_tokens=10, prompt_tokens_sent=210, generated_tokens=5),
        # Of version 0.1.0, which did not tell how often.
        "q2": common_pb2.Usage(prompt_tokens=10, generated_tokens=5),
    }
    for question, usage in usages.items():
        key = common_pb2.CellKey(run_id="r", model="a", condition="zero_shot", question_id=question)
        progress.end(outcome_of(scoring_pb2.Verdict(cell=key, usage=usage)))
    assert progress.message(0).tokens == 215 + 15
