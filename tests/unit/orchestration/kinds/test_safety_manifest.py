import pytest

from safescale.core.errors import SpecError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.formats.run_spec import RunFile
from safescale.orchestration.identity import digest_of
from safescale.orchestration.kinds import safety_manifest as manifest
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb


@pytest.fixture
def environment(benchmark, models, corpora) -> Environment:
    return Environment(benchmark, models, corpora)


def test_defaults_are_filled_in(spec, environment) -> None:
    manifest = resolve(spec, environment)
    assert manifest.spec.formulation == "auto"
    assert manifest.spec.max_new_tokens == 10
    assert list(manifest.question_ids) == ["q0", "q1", "q2"]
    assert manifest.models[0].revision == "r1"
    assert manifest.models[0].formulation == common_pb2.FORMULATION_CLOZE


def test_the_digest_changes_with_what_decides_results_alone(spec, environment) -> None:
    base = digest_of(resolve(spec, environment))
    assert digest_of(resolve(spec, environment)) == base
    spec.seed = 2
    assert digest_of(resolve(spec, environment)) != base


def test_a_reasoning_model_gets_room_to_think(spec, environment) -> None:
    spec.models.append("thinker")
    manifest = resolve(spec, environment)
    assert [model.max_new_tokens for model in manifest.models] == [10, 4096]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": ""}, "name"),
        ({"models": ["nobody"]}, "nobody: is not in the catalog"),
        ({"models": ["gone"]}, "its package is not installed"),
        ({"models": ["small", "small"]}, "more than once"),
        ({"models": ["blind"]}, "no option scores"),
        ({"conditions": ["zero_shoot"]}, "did you mean 'zero_shot'"),
        ({"conditions": ["top_5"]}, "expected a corpus"),
        ({"conditions": ["top_5"], "corpus_id": "c9"}, "c9: is not ingested"),
        ({"greedy": False, "samples": 0}, "regimes"),
        ({"samples": 101}, "at most 100"),
        ({"temperature": 0.0}, "temperature"),
        ({"formulation": "essay"}, "essay"),
        ({"seed": 2**31}, "seed: 2147483648: expected at most 2147483647"),
        ({"max_new_tokens": 32769}, "max_new_tokens: 32769: expected at most 32768"),
        ({"judge_model": "nobody"}, "judge: nobody"),
        ({"review": "papers"}, "review: papers: expected paper"),
        ({"question_ids": ["q9"]}, "q9"),
        ({"conditions": ["deep_research"]}, "deep_research_report"),
        ({"ensembles": [pb.Ensemble(name="pair", members=["small", "other"])]}, "not models of the run: other"),
    ],
)
def test_each_defect_is_named(spec, environment, change, expected) -> None:
    for field, value in change.items():
        if isinstance(value, list):
            spec.ClearField(field)
            getattr(spec, field).extend(value)
        else:
            setattr(spec, field, value)
    with pytest.raises(SpecError, match=expected.replace("(", r"\(")):
        resolve(spec, environment)


def test_all_defects_are_listed_at_once(spec, environment) -> None:
    spec.formulation = "essay"
    spec.samples = 500
    spec.models[:] = ["nobody"]
    with pytest.raises(SpecError) as caught:
        resolve(spec, environment)
    assert all(text in caught.value.message for text in ("essay", "500", "nobody"))


def test_the_bounds_of_a_message_are_those_of_a_file(spec, environment) -> None:
    file = RunFile.model_json_schema()["properties"]
    assert file["seed"]["exclusiveMaximum"] - 1 == manifest.MAX_SEED
    assert file["max_new_tokens"]["maximum"] == manifest.MAX_NEW_TOKENS
    spec.seed, spec.max_new_tokens = 2**40, 2**20
    # A stored run of an earlier version may have them, and goes on.
    assert resolve(spec, environment, accepted=True).spec.seed == 2**40


def test_missing_evidence_names_the_questions(spec, models, corpora, make_question) -> None:
    bench = Benchmark("b", (make_question("q0"), make_question("q1", evidence_clean=None)))
    with pytest.raises(SpecError, match="questions without evidence_clean: q1"):
        resolve(spec, Environment(bench, models, corpora))
    spec.question_ids.append("q0")
    assert list(resolve(spec, Environment(bench, models, corpora)).question_ids) == ["q0"]


def test_the_size_of_a_run_is_bounded(spec, environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_CELLS", 2)
    with pytest.raises(SpecError, match="1 models × 2 conditions × 3 questions: are 6 cells; expected at most 2"):
        resolve(spec, environment)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("models", ["small"] * 1001),
        ("conditions", ["zero_shot"] * 1001),
        ("question_ids", ["q0"] * 500_001),
        ("ensembles", [pb.Ensemble(name="all", members=["small"] * 1001)]),
    ],
)
def test_lists_that_are_too_long_are_refused_unread(spec, environment, field: str, values: list) -> None:
    spec.ClearField(field)
    getattr(spec, field).extend(values)
    with pytest.raises(SpecError, match=f"{field} has [0-9,]+ entries; expected at most"):
        resolve(spec, environment)


def test_of_many_unknown_questions_some_are_named(spec, environment) -> None:
    spec.question_ids.extend(f"none-{number}" for number in range(1000))
    with pytest.raises(SpecError, match="none-9 and 990 more"):
        resolve(spec, environment)
