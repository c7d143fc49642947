"""Every field of a spec, of a model and of a manifest either is part of a run's identity, or there is a reason."""

import pytest

from safescale.core.errors import FailedPreconditionError, SpecError
from safescale.orchestration.identity import check_unchanged, continues, differences
from safescale.orchestration.kinds import safety_manifest as manifests
from safescale.orchestration.kinds.safety_manifest import Surroundings, digest_of, resolve
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

IN = "in the digest"

SPEC_FIELDS = {
    "name": IN, "benchmark_id": IN, "corpus_id": IN, "models": IN, "conditions": IN, "formulation": IN, "greedy": IN,
    "samples": IN, "temperature": IN, "ensembles": IN, "seed": IN, "judge_model": IN, "agent_model": IN,
    "question_ids": IN, "question_limit": IN, "max_new_tokens": IN, "fresh": IN, "review": IN,
    "clinician_validated": IN, "benchmark_name": IN, "corpus_name": IN,
}  # fmt: skip

CATALOG_FIELDS = {
    "id": IN, "family": IN, "parameters_b": IN, "window_tokens": IN, "revision": IN, "backend": IN, "instruct": IN,
    "reasoning": IN, "reasoning_style": IN, "served_model": IN, "fingerprint": IN, "auto_formulation": IN,
    "license": "says who may use it, and changes no answer",
    "available": "is true of every model that a run is made with",
    "unavailable_reason": "is empty for every model that a run is made with",
    "supports_scores": "decides whether a run is possible; what is asked is the formulation",
    "concurrency": "changes how fast cells are asked",
    "price": "changes what an answer costs",
}  # fmt: skip

MANIFEST_FIELDS = {
    "spec": IN, "models": IN, "benchmark_name": IN, "clinician_validated": IN, "question_ids": IN, "corpus_name": IN,
    "embedder": IN, "prompt_version": IN, "package_version": IN, "judge_revision": IN, "agent_revision": IN,
    "judge_prompt_version": IN, "judge": IN, "agent": IN, "agent_version": IN, "reading_version": IN,
}  # fmt: skip

MODEL_FIELDS = {
    "id": IN, "family": IN, "parameters_b": IN, "window_tokens": IN, "revision": IN, "backend": IN, "reasoning": IN,
    "formulation": IN, "max_new_tokens": IN, "instruct": IN, "reasoning_style": IN, "served_model": IN,
    "fingerprint": IN,
}  # fmt: skip


@pytest.fixture
def around(benchmark, models, corpora) -> Surroundings:
    for model in models.values():
        model.fingerprint, model.served_model, model.price.prompt = "server 1.0", f"{model.id}-v1", 1.0
    return Surroundings(benchmark, models, corpora)


@pytest.fixture
def full(spec, around) -> pb.Manifest:
    spec.judge_model, spec.agent_model, spec.corpus_id = "other", "other", "c1"
    spec.ensembles.append(pb.Ensemble(name="pair", members=["small", "thinker"]))
    spec.models.append("thinker")
    return resolve(spec, around)


def changed(message, field):
    """A copy of a message with another value of one field."""
    copied = type(message)()
    copied.CopyFrom(message)
    value = getattr(message, field.name)
    if field.is_repeated:
        getattr(copied, field.name).append(value[0] if value else "more")
    elif field.message_type is not None:
        inner = getattr(copied, field.name)
        inner.MergeFrom(changed(inner, inner.DESCRIPTOR.fields[0]))
    elif isinstance(value, bool):
        setattr(copied, field.name, not value)
    elif field.enum_type is not None:
        setattr(copied, field.name, 3 - value)
    elif isinstance(value, str):
        setattr(copied, field.name, f"{value}-2")
    else:
        setattr(copied, field.name, value + 1)
    return copied


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (pb.RunSpec, SPEC_FIELDS), (inference_pb2.Model, CATALOG_FIELDS), (pb.Manifest, MANIFEST_FIELDS),
        (pb.ManifestModel, MODEL_FIELDS),
    ],
)  # fmt: skip
def test_of_every_field_it_is_said_whether_it_is_in_the_digest(kind, said) -> None:
    assert {field.name for field in kind.DESCRIPTOR.fields} == set(said)


@pytest.mark.parametrize("name", MANIFEST_FIELDS)
def test_every_field_of_a_manifest_changes_its_digest(full, name) -> None:
    assert digest_of(changed(full, pb.Manifest.DESCRIPTOR.fields_by_name[name])) != digest_of(full)


@pytest.mark.parametrize("name", MODEL_FIELDS)
def test_every_field_of_its_models_changes_its_digest_and_is_a_difference(full, name) -> None:
    field = pb.ManifestModel.DESCRIPTOR.fields_by_name[name]
    for each in (full.models[1], full.judge, full.agent):
        before = pb.Manifest()
        before.CopyFrom(full)
        each.CopyFrom(changed(each, field))
        assert digest_of(full) != digest_of(before)
        assert differences(before, full)


@pytest.mark.parametrize("name", SPEC_FIELDS)
def test_every_field_of_the_spec_is_a_difference(full, name) -> None:
    other = pb.Manifest()
    other.CopyFrom(full)
    other.spec.CopyFrom(changed(full.spec, pb.RunSpec.DESCRIPTOR.fields_by_name[name]))
    assert digest_of(other) != digest_of(full)
    assert differences(full, other)


@pytest.mark.parametrize("name", [name for name in CATALOG_FIELDS if name != "id"])
@pytest.mark.parametrize("role", ["small", "judge", "agent"])
def test_what_the_catalog_says_of_a_model_is_in_the_digest_or_changes_no_answer(spec, around, name, role) -> None:
    spec.judge_model, spec.agent_model, spec.corpus_id = "judge", "agent", "c1"
    models = dict(around.models)
    for each in ("judge", "agent"):
        models[each] = inference_pb2.Model()
        models[each].CopyFrom(around.models["other"])
        models[each].id = each
    before = digest_of(resolve(spec, Surroundings(around.benchmark, models, around.corpora)))
    models[role] = changed(models[role], inference_pb2.Model.DESCRIPTOR.fields_by_name[name])
    models[role].available = models[role].supports_scores = True
    after = digest_of(resolve(spec, Surroundings(around.benchmark, models, around.corpora)))
    # Neither a judge nor an agent is asked in a formulation.
    expected = CATALOG_FIELDS[name] == IN and not (name == "auto_formulation" and role != "small")
    assert (after != before) == expected


@pytest.mark.parametrize("name", ["PROMPT_VERSION", "JUDGE_PROMPT_VERSION", "READING_VERSION", "AGENT_VERSION"])
def test_every_version_that_can_change_an_answer_or_its_reading_is_a_difference(full, around, monkeypatch, name):
    monkeypatch.setattr(manifests, name, "another")
    now = resolve(full.spec, around)
    assert digest_of(now) != digest_of(full)
    assert "another" in " ".join(differences(full, now))


def test_an_upgrade_alone_is_no_difference(full, around, monkeypatch) -> None:
    monkeypatch.setattr(manifests, "__version__", "9.9.9")
    assert differences(full, resolve(full.spec, around)) == []


def stored_by_the_first_version(full: pb.Manifest) -> pb.Manifest:
    """The manifest as version 0.1.0 would have stored it: without the fields that it did not have."""
    old = pb.Manifest()
    old.CopyFrom(full)
    for name in ("judge", "agent", "agent_version", "reading_version"):
        old.ClearField(name)
    for name in ("review", "clinician_validated", "benchmark_name", "corpus_name"):
        old.spec.ClearField(name)
    for model in old.models:
        for name in ("instruct", "reasoning_style", "served_model", "fingerprint"):
            model.ClearField(name)
    return old


def test_what_an_old_manifest_does_not_state_is_not_compared_what_it_states_is(full, around) -> None:
    old = stored_by_the_first_version(full)
    run = pb.Run(run_id="old", manifest=old, state=pb.RUN_STATE_FAILED)
    assert differences(old, full) == []
    assert continues(run, full, digest_of(full))
    check_unchanged(run, around)
    around.models["small"].reasoning = True
    with pytest.raises(FailedPreconditionError, match="model small: reasoning was false and is true"):
        check_unchanged(run, around)


def test_a_run_whose_name_is_not_taken_any_more_goes_on(full, around) -> None:
    full.spec.name = "ward\tA"
    with pytest.raises(SpecError, match="name"):
        resolve(full.spec, around)
    check_unchanged(pb.Run(run_id="old", manifest=full), around)


def test_a_finished_run_of_another_version_is_left_alone(full) -> None:
    old = stored_by_the_first_version(full)
    old.package_version = "0.0.9"
    run = pb.Run(run_id="old", manifest=old, state=pb.RUN_STATE_COMPLETED)
    assert not continues(run, full, digest_of(full))
    old.package_version = full.package_version
    run.manifest.CopyFrom(old)
    assert continues(run, full, digest_of(full))


def test_every_difference_is_named_with_both_values(full, around) -> None:
    run = pb.Run(run_id="r", manifest=full)
    around.models["small"].revision = "r2"
    around.models["small"].instruct = False
    around.models["other"].served_model = "adapter-v2"
    around.corpora["c1"].embedder = "minilm@2"
    with pytest.raises(FailedPreconditionError) as caught:
        check_unchanged(run, around)
    for part in (
        "model small: revision was r1 and is r2",
        "model small: instruct was true and is false",
        "judge other: served model was other-v1 and is adapter-v2",
        "agent other: served model was other-v1 and is adapter-v2",
        "embedder was minilm@1 and is minilm@2",
    ):
        assert part in caught.value.message


def test_a_server_that_is_away_may_come_back(full, around) -> None:
    run = pb.Run(run_id="r", manifest=full)
    for name in ("small", "other"):
        row = around.models[name]
        row.backend = "tgi"
        row.available, row.unavailable_reason, row.revision, row.fingerprint = False, "no answer", "", ""
        row.supports_scores = False
    for each in (full.models[0], full.judge, full.agent):
        each.backend = "tgi"
    run.manifest.CopyFrom(full)
    check_unchanged(run, around)
    # What the catalog itself says is compared all the same.
    around.models["small"].served_model = "v9"
    with pytest.raises(FailedPreconditionError, match="served model was small-v1 and is v9"):
        check_unchanged(run, around)


def test_a_run_whose_model_or_corpus_is_gone_cannot_go_on(full, around) -> None:
    run = pb.Run(run_id="r", manifest=full)
    searching = pb.Run(run_id="r", manifest=full)
    searching.manifest.spec.conditions.append("top_1")
    with pytest.raises(FailedPreconditionError, match="c1: is not ingested"):
        check_unchanged(searching, Surroundings(around.benchmark, around.models, {}))
    around.models["other"].available = False
    with pytest.raises(FailedPreconditionError, match="other: is not available"):
        check_unchanged(run, around)
    del around.models["small"]
    with pytest.raises(FailedPreconditionError, match="small: is not in the catalog"):
        check_unchanged(run, around)


def test_names_and_validation_are_those_of_the_run_that_states_them(spec, benchmark, models, corpora) -> None:
    around = Surroundings(benchmark, models, corpora)
    silent = resolve(spec, around)
    assert (silent.benchmark_name, silent.clinician_validated) == ("bench", False)
    spec.benchmark_name, spec.clinician_validated = "mine", True
    stated = resolve(spec, around)
    assert (stated.benchmark_name, stated.clinician_validated) == ("mine", True)
    assert digest_of(stated) != digest_of(silent)
    spec.benchmark_name, spec.clinician_validated = "bench", False
    # To state what would be taken anyway makes no other run.
    assert digest_of(resolve(spec, around)) == digest_of(silent)
    spec.corpus_id, spec.corpus_name = "c1", "guidelines"
    assert resolve(spec, around).corpus_name == "guidelines"
