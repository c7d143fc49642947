"""Which runs may be compared, which models are meant, and what a reader is told."""

from collections.abc import Callable

import pytest

from safescale.core.errors import FailedPreconditionError, InvalidInputError
from safescale.core.safety.tables.compared import ModelPair
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.scoring.kinds.safety_likeness import check_alike, notes_of, pairs_of, regimes_of

LETTER, CLOZE = common_pb2.FORMULATION_LETTER, common_pb2.FORMULATION_CLOZE


def run(name: str, *models: str, formulation: "common_pb2.Formulation.ValueType" = LETTER) -> orc.Run:
    spec = orc.RunSpec(
        name=name, benchmark_id="b" * 64, models=models, conditions=["zero_shot", "top_1"], greedy=True, samples=5,
        temperature=0.7, corpus_id="c" * 64,
    )  # fmt: skip
    rows = [orc.ManifestModel(id=model, formulation=formulation, revision=f"{name}-1") for model in models]
    manifest = orc.Manifest(
        spec=spec, models=rows, question_ids=["q1", "q2"], benchmark_name="bench", prompt_version="2",
        reading_version="3",
    )  # fmt: skip
    return orc.Run(run_id=name, state=orc.RUN_STATE_COMPLETED, manifest=manifest)


@pytest.fixture
def sides() -> tuple[orc.Run, orc.Run]:
    return run("new", "m"), run("old", "m")


def test_runs_of_one_spec_are_alike_and_nothing_is_told(sides) -> None:
    pairs = pairs_of(sides, ("", ""))
    check_alike(sides, pairs)
    assert pairs == [ModelPair("m", "m")]
    assert regimes_of(sides) == ["greedy", "majority"]
    assert notes_of(sides, pairs) == []


def refused(field: str, value: object) -> Callable[[orc.Run], None]:
    def change(side: orc.Run) -> None:
        manifest = side.manifest if hasattr(side.manifest, field) else side.manifest.spec
        setattr(manifest, field, value)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (refused("benchmark_id", "d" * 64), r"benchmark: bench \(bbbbbbbbbbbb\) in the candidate, bench \(dddddd"),
        (refused("prompt_version", "1"), "version of the prompt templates: 2 in the candidate, 1 in the baseline"),
        (refused("reading", "explicit"), "reading: strict in the candidate, explicit in the baseline"),
        (refused("answer", "constrained"), "answer: free in the candidate, constrained in the baseline"),
        (refused("reading_version", ""), "version of the reading rules: 3 in the candidate, none in the baseline"),
    ],
)
def test_unlike_runs_are_refused_with_what_differs(sides, change, told: str) -> None:
    change(sides[1])
    with pytest.raises(FailedPreconditionError, match=f"new cannot be compared with run old.*{told}"):
        check_alike(sides, [ModelPair("m", "m")])


def test_every_difference_is_named(sides) -> None:
    baseline = run("old", "m", formulation=CLOZE)
    baseline.manifest.spec.reading = "explicit"
    baseline.manifest.question_ids[:] = ["q8", "q9"]
    baseline.manifest.spec.conditions[:] = ["evidence_clean"]
    with pytest.raises(FailedPreconditionError) as error:
        check_alike((sides[0], baseline), [ModelPair("m", "m")])
    for told in (
        "formulation: letter of the candidate's m, cloze of the baseline's m",
        "reading: strict in the candidate, explicit in the baseline",
        "questions: 2 in the candidate, 2 in the baseline, and none in both",
        "conditions: zero_shot, top_1 in the candidate, evidence_clean in the baseline, and none in both",
    ):
        assert told in error.value.message


def test_how_answers_are_read_does_not_matter_where_there_are_none() -> None:
    sides = run("new", "m", formulation=CLOZE), run("old", "m", formulation=CLOZE)
    sides[1].manifest.spec.reading = "explicit"
    sides[1].manifest.spec.judge_model = "j"
    check_alike(sides, [ModelPair("m", "m")])
    assert notes_of(sides, [ModelPair("m", "m")]) == []


def test_other_samples_leave_the_majority_out_and_are_told(sides) -> None:
    sides[1].manifest.spec.samples = 20
    assert regimes_of(sides) == ["greedy"]
    (note,) = notes_of(sides, [ModelPair("m", "m")])
    assert "5 samples at temperature 0.7 in the candidate, greedy and 20 samples at temperature 0.7" in note
    sides[1].manifest.spec.greedy = False
    with pytest.raises(FailedPreconditionError, match="regimes: greedy and 5 samples at temp"):
        check_alike(sides, [ModelPair("m", "m")])


def test_what_differs_beside_the_model_is_told(sides) -> None:
    other = sides[1].manifest
    other.spec.judge_model, other.spec.corpus_id, other.embedder = "j", "e" * 64, "minilm"
    other.question_ids[:] = ["q2", "q3", "q4"]
    other.spec.conditions[:] = ["top_1", "top_5"]
    sides[1].state = orc.RUN_STATE_CANCELLED
    told = "\n".join(notes_of(sides, [ModelPair("m", "m")]))
    for part in (
        "Run old of the baseline is not completed but cancelled",
        "(2 in the candidate, 3 in the baseline): the 1 in both are compared",
        "only the candidate has them: zero_shot",
        "only the baseline has them: top_5",
        "judge: none in the candidate, j in the baseline",
        "embedder: none in the candidate, minilm in the baseline",
        "corpus: ",
    ):
        assert part in told


def test_one_model_twice_is_told(sides) -> None:
    sides[1].manifest.models[0].revision = sides[0].manifest.models[0].revision
    assert notes_of(sides, [ModelPair("m", "m")]) == [
        "m is the same in both runs, revision new-1: what differs is not the model."
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "named", "expected"),
    [
        (("a",), ("b",), ("", ""), [("a", "b")]),
        (("a", "b", "c"), ("c", "b"), ("", ""), [("b", "b"), ("c", "c")]),
        (("a", "b"), ("a",), ("b", ""), [("b", "a")]),
        (("a", "b"), ("a", "b"), ("b", ""), [("b", "b")]),
        (("a", "b"), ("a", "b"), ("b", "a"), [("b", "a")]),
        (("a",), ("b", "c"), ("", "c"), [("a", "c")]),
    ],
)
def test_models_are_paired(ours, theirs, named, expected) -> None:
    found = pairs_of((run("new", *ours), run("old", *theirs)), named)
    assert [(pair.candidate, pair.baseline) for pair in found] == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "named", "told"),
    [
        (("a", "b"), ("c", "d"), ("", ""), "run new has a, b, run old has c, d"),
        (("a", "b"), ("c", "d"), ("a", ""), "name one of each"),
        (("a", "b"), ("c", "d"), ("", "c"), "the candidate's model is not named, and run new has a, b"),
        (("a",), ("b",), ("x", "b"), "run new does not have the model 'x'; expected a"),
        (("a",), ("b",), ("a", "x"), "run old does not have the model 'x'; expected b"),
    ],
)
def test_models_that_are_not_clear_are_refused(ours, theirs, named, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        pairs_of((run("new", *ours), run("old", *theirs)), named)


@pytest.mark.parametrize("named", [("", ""), ("a", "a"), ("a", "")])
def test_a_model_of_a_run_is_not_compared_with_itself(named) -> None:
    one = run("new", "a")
    with pytest.raises(InvalidInputError, match="candidate and baseline are the same: a of run new"):
        pairs_of((one, one), named)
