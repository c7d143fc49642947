"""The counts that progress keeps are those of the cells, whatever happened in whatever order."""

from hypothesis import given
from hypothesis import strategies as st

from safescale.core.safety.cells import Cell
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
def test_counts_are_those_of_the_cells(steps) -> None:
    spec = pb.RunSpec(models=MODELS, conditions=CONDITIONS)
    progress = RunProgress(pb.Run(run_id="r", manifest=pb.Manifest(spec=spec, question_ids=QUESTIONS)))
    ended: dict[Cell, bool] = {}
    skipped: set[Cell] = set()
    for what, model, condition, question in steps:
        cell = Cell("r", model, condition, question)
        if what.startswith("skip"):
            named = [question] if what == "skip" else list(QUESTIONS)
            progress.skip(pb.Skip(model=model, condition=condition, question_id=question if what == "skip" else ""))
            skipped |= {Cell("r", model, condition, each) for each in named} - ended.keys()
        else:
            if what == "known":
                progress.known_before(cell, failed=False)
            else:
                key = common_pb2.CellKey(run_id="r", model=model, condition=condition, question_id=question)
                failure = common_pb2.Failure(reason="X") if what == "fail" else None
                progress.end(scoring_pb2.Verdict(cell=key, failure=failure))
            ended.setdefault(cell, what == "fail")
            skipped.discard(cell)
    rows = {(row.model, row.condition): row for row in progress.message(0).cells}
    for (model, condition), row in rows.items():
        here = [cell for cell in ended if (cell.model, cell.condition) == (model, condition)]
        left = [cell for cell in skipped if (cell.model, cell.condition) == (model, condition)]
        assert (row.completed, row.failed) == (len(here), sum(ended[cell] for cell in here))
        assert (row.skipped, row.planned) == (len(left), len(QUESTIONS) - len(left))
    assert progress.complete == (len(ended) + len(skipped) == 12)


def test_tokens_count_the_prompt_as_often_as_it_was_sent() -> None:
    spec = pb.RunSpec(models=("a",), conditions=("zero_shot",))
    progress = RunProgress(pb.Run(run_id="r", manifest=pb.Manifest(spec=spec, question_ids=QUESTIONS)))
    usages = {
        "q1": common_pb2.Usage(prompt_tokens=10, prompt_tokens_sent=210, generated_tokens=5),
        # Of version 0.1.0, which did not tell how often.
        "q2": common_pb2.Usage(prompt_tokens=10, generated_tokens=5),
    }
    for question, usage in usages.items():
        key = common_pb2.CellKey(run_id="r", model="a", condition="zero_shot", question_id=question)
        progress.end(scoring_pb2.Verdict(cell=key, usage=usage))
    assert progress.message(0).tokens == 215 + 15
