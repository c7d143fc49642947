"""Which names in an answer are those of the model that was asked."""

import pytest

from safescale.core.errors import AnotherModelError
from safescale.inference.backends.model_names import ModelNames, listed, names_of, tgi_names

LISTED = [
    {"id": "first", "root": "/models/Qwen3-32B", "parent": None},
    {"id": "second", "root": "/models/Qwen3-32B", "parent": None},
    {"id": "lora", "root": "/adapters/lora-v2", "parent": "first"},
    {"id": "org-a/same", "root": "org-a/same"},
    {"id": "org-b/same", "root": "org-b/same"},
    {"id": "aliased", "aliases": ["also"]},
    {"id": "tuned", "parent": "hidden-base"},
]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o", ""),
        ("gpt-4o", "GPT-4o"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o-2024-08-06"),
        ("mistral-large-latest", "mistral-large-2411"),
        ("llama3", "llama3:latest"),
        ("gemini-1.5-pro", "gemini-1.5-pro-002"),
        ("Qwen/Qwen3-32B", "/data/models/Qwen3-32B.gguf"),
        ("Qwen3-32B", "C:\\models\\Qwen3-32B"),
    ],
)
def test_other_names_of_the_same_model(asked, answered) -> None:
    assert ModelNames(asked).accepts(answered)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13"),
        ("qwen3-32b", "qwen3-8b"),
        ("llama3", "llama3.1"),
        ("llama3:8b", "llama3:70b"),
        ("m", "tiny-fallback-1b"),
        ("Qwen/Qwen3-32B", "/data/models/Qwen3-32B-AWQ"),
        ("m", "-2024"),
        ("-latest", "-2024"),
    ],
)
def test_names_of_other_models(asked, answered) -> None:
    names = ModelNames(asked)
    assert not names.accepts(answered)
    with pytest.raises(AnotherModelError) as caught:
        names.check("row", answered)
    assert asked in caught.value.message
    assert answered in caught.value.message


@pytest.mark.parametrize(
    ("asked", "accepted", "refused"),
    [
        # vLLM answers by the first of a model's names, or by that of an adapter.
        ("second", {"first", "second", "Qwen3-32B"}, {"lora", "org-a/same"}),
        # The base model's answer is not the adapter's.
        ("lora", {"lora", "lora-v2"}, {"first", "second"}),
        ("org-a/same", {"same", "/cache/same"}, {"org-b/same"}),
        ("also", {"aliased", "also"}, {"first"}),
        ("tuned", {"hidden-base"}, {"first"}),
    ],
)
def test_what_a_server_lists_as_one_model_is_one(asked, accepted, refused) -> None:
    names = names_of(asked, LISTED)
    assert {name for name in accepted | refused if names.accepts(name)} == accepted


def test_tgi_answers_by_its_models_name_where_no_adapter_was_asked() -> None:
    assert tgi_names("tgi", "org/base").accepts("org/base")
    assert not tgi_names("lora", "org/base").accepts("org/base")
    assert tgi_names("lora", "org/base").accepts("lora")


def test_the_entry_of_a_model_is_found_by_id_alias_or_without_latest() -> None:
    models = [{"id": "llama3:latest"}, {"id": "llama3"}, {"id": "/w/a.gguf", "aliases": ["a"]}, {"id": "b:latest"}]
    assert listed(models, "llama3") == {"id": "llama3"}
    assert listed(models, "a")["id"] == "/w/a.gguf"
    assert listed(models, "b") == {"id": "b:latest"}
    assert listed(models, "latest") == listed(models, "c") == {}
