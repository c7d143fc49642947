import pytest

from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2


def make_question(identifier: str, **changes) -> Question:
    fields = {
        "question_id": identifier,
        "text": f"What is {identifier}?",
        "options": {"A": "this", "B": "that"},
        "correct_answer": "A",
        "subspecialty": "chest",
        "evidence_clean": "It is this.",
        "evidence_conflict": "It is this, or that.",
        "labels": {"A": OptionLabels(False, False, False), "B": OptionLabels(True, True, True)},
    }
    return Question(**(fields | changes))


@pytest.fixture(name="make_question")
def question_maker():
    return make_question


@pytest.fixture
def benchmark() -> Benchmark:
    return Benchmark("bench", tuple(make_question(f"q{i}") for i in range(3)))


@pytest.fixture
def spec(benchmark) -> pb.RunSpec:
    return pb.RunSpec(
        name="Test run",
        benchmark_id=benchmark.content_hash,
        models=["small"],
        conditions=["zero_shot", "evidence_clean"],
        greedy=True,
        samples=3,
        temperature=0.7,
        seed=1,
    )


@pytest.fixture
def models() -> dict[str, inference_pb2.Model]:
    def model(name: str, **changes) -> inference_pb2.Model:
        fields = {
            "id": name,
            "family": "F",
            "parameters_b": 0.1,
            "window_tokens": 8192,
            "revision": "r1",
            "backend": "embedded",
            "instruct": True,
            "auto_formulation": common_pb2.FORMULATION_CLOZE,
            "available": True,
            "supports_scores": True,
            "concurrency": 2,
        }
        return inference_pb2.Model(**(fields | changes))

    return {
        "small": model("small"),
        "other": model("other"),
        "thinker": model("thinker", reasoning=True, auto_formulation=common_pb2.FORMULATION_LETTER),
        "gone": model("gone", available=False, unavailable_reason="its package is not installed"),
        "blind": model("blind", supports_scores=False),
    }


@pytest.fixture
def corpora() -> dict[str, retrieval_pb2.Corpus]:
    return {"c1": retrieval_pb2.Corpus(corpus_id="c1", name="corpus", embedder="minilm@1")}


@pytest.fixture
def environment(benchmark, models, corpora) -> Environment:
    for model in models.values():
        model.fingerprint, model.served_model, model.price.prompt = "server 1.0", f"{model.id}-v1", 1.0
    return Environment(benchmark, models, corpora)


@pytest.fixture
def full(spec, environment) -> pb.Manifest:
    spec.judge_model, spec.agent_model, spec.corpus_id = "other", "other", "c1"
    spec.ensembles.append(pb.Ensemble(name="pair", members=["small", "thinker"]))
    spec.models.append("thinker")
    return resolve(spec, environment)
