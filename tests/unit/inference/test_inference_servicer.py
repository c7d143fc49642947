import asyncio
from dataclasses import replace

import pytest

from safescale.core.errors import InvalidInputError, LimitExceededError, ModelChangedError, NotFoundError
from safescale.inference.servicer import InferenceServicer
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2 as pb

SAMPLING = pb.Sampling(max_new_tokens=10)
MESSAGES = pb.Messages(user="u")


@pytest.fixture
def servicer(bench):
    return InferenceServicer(bench.engine)


def generate(**changes) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"model": "m", "messages": MESSAGES, "sampling": SAMPLING, **changes})


async def test_texts_with_usage_and_times(servicer) -> None:
    drawn = pb.Sampling(temperature=0.7, max_new_tokens=10, seed=4, count=3)
    response = await servicer.Generate(generate(sampling=drawn), None)
    assert [output.text for output in response.outputs] == ["B4", "B5", "B6"]
    assert (response.usage.prompt_tokens, response.usage.generated_tokens) == (7, 6)
    assert (response.elapsed_s, response.cached) == (0.25, False)
    assert not response.HasField("time_to_first_token_s")
    assert (await servicer.Generate(generate(sampling=drawn), None)).cached


async def test_scores_in_order(servicer) -> None:
    response = await servicer.Generate(generate(sampling=None, continuations=[" ab", " a b"]), None)
    assert [(score.mean_logprob, score.tokens) for score in response.scores] == [(-3.0, 1), (-4.0, 2)]
    assert not response.outputs
    assert response.model_revision == "f" * 64


async def test_reasoning_from_its_own_field(bench_of) -> None:
    bench = bench_of(reasoning="think")
    bench.backend.reasoning = "because"
    response = await InferenceServicer(bench.engine).Generate(generate(), None)
    assert (response.outputs[0].text, response.outputs[0].reasoning) == ("B", "because")


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"model": ""}, InvalidInputError, "model is empty"),
        ({"model": "n"}, NotFoundError, "not in the catalog"),
        ({"messages": None}, InvalidInputError, "messages is missing"),
        ({"messages": pb.Messages(system="s", user=" ")}, InvalidInputError, "messages.user"),
        ({"sampling": None}, InvalidInputError, "sampling is missing"),
        ({"sampling": pb.Sampling(max_new_tokens=0)}, InvalidInputError, "max_new_tokens is 0; expected 1 to 4096"),
        ({"sampling": pb.Sampling(max_new_tokens=5000)}, InvalidInputError, "max_new_tokens is 5000"),
        ({"sampling": pb.Sampling(max_new_tokens=1, temperature=-1)}, InvalidInputError, "temperature is -1"),
        ({"sampling": pb.Sampling(max_new_tokens=1, temperature=float("nan"))}, InvalidInputError, "temperature"),
        ({"sampling": pb.Sampling(max_new_tokens=1, count=2)}, InvalidInputError, "sampling.count is 2"),
        ({"sampling": pb.Sampling(max_new_tokens=1, count=101, temperature=1)}, LimitExceededError, "limit of 100"),
        ({"sampling": pb.Sampling(max_new_tokens=1, seed=2**31)}, InvalidInputError, "sampling.seed"),
        ({"sampling": pb.Sampling(max_new_tokens=1, stop=[""])}, InvalidInputError, "sampling.stop"),
        ({"continuations": ["a", " "]}, InvalidInputError, r"continuations\[1\]"),
        ({"continuations": ["a"] * 101}, LimitExceededError, "limit of 100"),
    ],
)
async def test_bad_requests_name_the_field_and_ask_nobody(servicer, bench, changes, error, field) -> None:
    with pytest.raises(error, match=field):
        await servicer.Generate(generate(**changes), None)
    assert bench.backend.exchanges == []


async def test_a_stream_ends_with_the_result(servicer, bench) -> None:
    bench.backend.text = "ab"
    request = pb.GenerateStreamRequest(request=generate())
    events = [event async for event in servicer.GenerateStream(request, None)]
    assert [event.text_delta for event in events[:-1]] == ["a", "b"]
    assert events[-1].result.outputs[0].text == "ab"


@pytest.mark.parametrize(
    "changes", [{"continuations": ["a"]}, {"sampling": pb.Sampling(max_new_tokens=1, temperature=1, count=2)}]
)
async def test_a_stream_is_of_one_text(servicer, changes) -> None:
    with pytest.raises(InvalidInputError):
        _ = [e async for e in servicer.GenerateStream(pb.GenerateStreamRequest(request=generate(**changes)), None)]


async def test_tokens_are_counted_and_cut(servicer) -> None:
    counted = await servicer.Tokenize(pb.TokenizeRequest(model="m", texts=["a b c", ""]), None)
    assert (list(counted.token_counts), list(counted.truncated_texts)) == ([3, 0], [])
    cut = await servicer.Tokenize(pb.TokenizeRequest(model="m", texts=["a b c"], truncate_to=2), None)
    assert list(cut.truncated_texts) == ["a b"]
    empty = await servicer.Tokenize(pb.TokenizeRequest(model="m", texts=["a"], truncate_to=0), None)
    assert list(empty.truncated_texts) == [""]


async def test_limits_of_tokenize(servicer) -> None:
    with pytest.raises(LimitExceededError, match="limit of 1000"):
        await servicer.Tokenize(pb.TokenizeRequest(model="m", texts=[""] * 1001), None)
    with pytest.raises(LimitExceededError, match="16,777,216"):
        await servicer.Tokenize(pb.TokenizeRequest(model="m", texts=["é" * (8 * 1024 * 1024 + 1)]), None)


async def test_the_catalog_says_what_can_be_asked(servicer, bench) -> None:
    (model,) = (await servicer.ListModels(pb.ListModelsRequest(), None)).models
    assert (model.id, model.available, model.supports_scores, model.concurrency) == ("m", True, True, 2)
    assert model.auto_formulation == common_pb2.FORMULATION_LETTER
    assert (model.window_tokens, model.revision, model.reasoning) == (4096, "f" * 64, False)
    bench.backend.reason = "the package x is not installed"
    one = (await servicer.GetModel(pb.GetModelRequest(model="m"), None)).model
    assert (one.available, one.unavailable_reason) == (False, "the package x is not installed")
    with pytest.raises(NotFoundError):
        await servicer.GetModel(pb.GetModelRequest(model="n"), None)


async def test_a_server_that_does_not_tell_its_model_holds_up_no_list(bench_of, monkeypatch) -> None:
    monkeypatch.setattr("safescale.inference.servicer.REVISION_TIMEOUT_S", 0.02)
    served = {"backend": "openai", "embedded": None, "endpoint": {"urls": ["http://gpu-1:8000"]}, "revision": None}
    bench = bench_of(**served)

    async def silent(*, refresh: bool = False) -> str:
        await asyncio.sleep(60)
        return ""

    monkeypatch.setattr(bench.backend, "revision", silent)
    (model,) = (await InferenceServicer(bench.engine).ListModels(pb.ListModelsRequest(), None)).models
    assert (model.available, model.backend) == (False, "openai")
    assert "within 0.02 s" in model.unavailable_reason


async def test_a_caller_gets_the_model_that_it_expects_or_an_error(servicer) -> None:
    for changes in ({"model_revision": "other"}, {"model_fingerprint": "other"}):
        for asked in (generate(**changes), generate(sampling=None, continuations=[" a"], **changes)):
            with pytest.raises(ModelChangedError, match="expected other"):
                await servicer.Generate(asked, None)
        with pytest.raises(ModelChangedError, match="expected other"):
            await anext(servicer.GenerateStream(pb.GenerateStreamRequest(request=generate(**changes)), None))
    (model,) = (await servicer.ListModels(pb.ListModelsRequest(), None)).models
    known = {"model_revision": model.revision, "model_fingerprint": model.fingerprint}
    assert (await servicer.Generate(generate(**known), None)).model_revision == model.revision


async def test_warnings_and_costs_of_an_answer_are_told(bench_of) -> None:
    bench = bench_of(price_per_million={"prompt": 1e6, "generated": 0})
    bench.backend.prompt_calls = 3
    bench.backend.generations_of = lambda answer: replace(answer, warnings=("PROMPT_MAYBE_CUT",))
    response = await InferenceServicer(bench.engine).Generate(generate(), None)
    assert list(response.warnings) == ["PROMPT_MAYBE_CUT"]
    assert (response.usage.prompt_tokens_sent, response.usage.cost, response.usage.cost_prompt_once) == (21, 21, 7)


async def test_the_catalog_tells_what_decides_the_answers(bench_of) -> None:
    endpoint = {"urls": ["http://gpu-1:8000"], "served_model": "adapter-v2"}
    price = {"prompt": 0.5, "generated": 2}
    changes = {"backend": "openai", "embedded": None, "endpoint": endpoint, "reasoning": "think"}
    bench = bench_of(**changes, price_per_million=price)
    (model,) = (await InferenceServicer(bench.engine).ListModels(pb.ListModelsRequest(), None)).models
    assert (model.served_model, model.reasoning_style) == ("adapter-v2", "think")
    assert (model.price.prompt, model.price.generated) == (0.5, 2)
    assert model.fingerprint == (await bench.engine.identity("m")).fingerprint
    assert 'server="scripted 1"' in model.fingerprint


async def test_the_fingerprint_of_a_model_that_cannot_be_asked_is_not_known(servicer, bench) -> None:
    bench.backend.reason = "no weights"
    (model,) = (await servicer.ListModels(pb.ListModelsRequest(), None)).models
    assert (model.available, model.fingerprint, model.HasField("price")) == (False, "", False)
