"""Every field of a spec, of a model and of a manifest either is part of a run's identity, or there is a reason."""

from collections.abc import Mapping

import pytest

from safescale.core.errors import FailedPreconditionError, SpecError
from safescale.core.safety.answers import reading as readings
from safescale.orchestration.identity import continues, differences, digest_of
from safescale.orchestration.kinds import safety_manifest as manifests
from safescale.orchestration.kinds.safety_identity import check_unchanged
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

IN = "in the digest"

SPEC_FIELDS = {
    "name": IN, "benchmark_id": IN, "corpus_id": IN, "models": IN, "conditions": IN, "formulation": IN, "greedy": IN,
    "samples": IN, "temperature": IN, "ensembles": IN, "seed": IN, "judge_model": IN, "agent_model": IN,
    "question_ids": IN, "question_limit": IN, "max_new_tokens": IN, "fresh": IN, "review": IN,
    "clinician_validated": IN, "benchmark_name": IN, "corpus_name": IN, "reading": IN, "answer": IN,
    "series": IN, "draw": IN, "policy": IN, "series_limits": IN,
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
    "judge_prompt_version": IN, "judge": IN, "agent": IN, "agent_version": IN, "reading_version": IN, "kind": IN,
}  # fmt: skip

MODEL_FIELDS = {
    "id": IN, "family": IN, "parameters_b": IN, "window_tokens": IN, "revision": IN, "backend": IN, "reasoning": IN,
    "formulation": IN, "max_new_tokens": IN, "instruct": IN, "reasoning_style": IN, "served_model": IN,
    "fingerprint": IN,
}  # fmt: skip


def changed(message, field):
    """A copy of a message with another value of one field."""
    copied = type(message)()
    copied.CopyFrom(message)
    value = getattr(message, field.name)
    if isinstance(value, Mapping):
        value["more"] = 1.0
    elif field.is_repeated:
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
def test_what_the_catalog_says_of_a_model_is_in_the_digest_or_changes_no_answer(spec, environment, name, role) -> None:
    spec.judge_model, spec.agent_model, spec.corpus_id = "judge", "agent", "c1"
    models = dict(environment.models)
    for each in ("judge", "agent"):
        models[each] = inference_pb2.Model()
        models[each].CopyFrom(environment.models["other"])
        models[each].id = each
    before = digest_of(resolve(spec, Environment(environment.benchmark, models, environment.corpora)))
    models[role] = changed(models[role], inference_pb2.Model.DESCRIPTOR.fields_by_name[name])
    models[role].available = models[role].supports_scores = True
    after = digest_of(resolve(spec, Environment(environment.benchmark, models, environment.corpora)))
    # Neither a judge nor an agent is asked in a formulation.
    expected = CATALOG_FIELDS[name] == IN and not (name == "auto_formulation" and role != "small")
    assert (after != before) == expected


@pytest.mark.parametrize("name", ["PROMPT_VERSION", "JUDGE_PROMPT_VERSION", "AGENT_VERSION"])
def test_every_version_that_can_change_an_answer_or_its_reading_is_a_difference(full, environment, monkeypatch, name):
    monkeypatch.setattr(manifests, name, "another")
    now = resolve(full.spec, environment)
    assert digest_of(now) != digest_of(full)
    assert "another" in " ".join(differences(full, now))


def test_an_upgrade_alone_is_no_difference(full, environment, monkeypatch) -> None:
    monkeypatch.setattr(manifests, "__version__", "9.9.9")
    assert differences(full, resolve(full.spec, environment)) == []


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


def test_what_an_old_manifest_does_not_state_is_not_compared_what_it_states_is(full, environment) -> None:
    old = stored_by_the_first_version(full)
    run = pb.Run(run_id="old", manifest=old, state=pb.RUN_STATE_FAILED)
    assert differences(old, full) == []
    assert continues(run, full, digest_of(full))
    check_unchanged(run, environment)
    environment.models["small"].reasoning = True
    with pytest.raises(FailedPreconditionError, match="model small: reasoning was false and is true"):
        check_unchanged(run, environment)


def test_a_finished_run_of_another_version_is_left_alone(full) -> None:
    old = stored_by_the_first_version(full)
    old.package_version = "0.0.9"
    run = pb.Run(run_id="old", manifest=old, state=pb.RUN_STATE_COMPLETED)
    assert not continues(run, full, digest_of(full))
    old.package_version = full.package_version
    run.manifest.CopyFrom(old)
    assert continues(run, full, digest_of(full))


@pytest.mark.parametrize(("reading", "name"), [("strict", "READING_VERSION"), ("explicit", "EXPLICIT_VERSION")])
def test_every_version_of_the_rules_of_reading_is_a_difference(full, environment, monkeypatch, reading, name) -> None:
    full.spec.reading = reading
    before = resolve(full.spec, environment)
    monkeypatch.setattr(readings, name, "another")
    now = resolve(full.spec, environment)
    assert digest_of(now) != digest_of(before)
    assert "another" in " ".join(differences(before, now))


def test_a_manifest_without_a_reading_is_a_strict_one(full, environment) -> None:
    full.spec.reading = ""
    old = resolve(full.spec, environment)
    stated, other = pb.RunSpec(), pb.RunSpec()
    for spec, reading in ((stated, "strict"), (other, "explicit")):
        spec.CopyFrom(full.spec)
        spec.reading = reading
    assert old.reading_version == "2"
    assert differences(old, resolve(stated, environment)) == []
    found = differences(old, resolve(other, environment))
    assert found == ["reading was none and is explicit", "reading version was 2 and is 2-explicit-1"]


@pytest.mark.parametrize("version", ["", "2"])
def test_an_unfinished_run_that_states_no_reading_goes_on_strictly(full, environment, version) -> None:
    full.spec.reading = ""
    old = resolve(full.spec, environment)
    old.package_version, old.reading_version = "0.0.9", version
    run = pb.Run(run_id="old", manifest=old, state=pb.RUN_STATE_RUNNING, digest=digest_of(old))
    full.spec.reading = "explicit"
    fresh = resolve(full.spec, environment)
    assert continues(run, fresh, digest_of(fresh))
    assert run.digest == digest_of(run.manifest)
    run.state = pb.RUN_STATE_COMPLETED
    assert not continues(run, fresh, digest_of(fresh))


def test_a_strict_run_is_not_continued_by_an_explicit_one(full, environment) -> None:
    full.spec.reading = "strict"
    run = pb.Run(run_id="one", manifest=resolve(full.spec, environment), state=pb.RUN_STATE_RUNNING)
    full.spec.reading = "explicit"
    fresh = resolve(full.spec, environment)
    assert not continues(run, fresh, digest_of(fresh))


def test_a_reading_that_there_is_not_is_a_defect(full, environment) -> None:
    full.spec.reading = "lenient"
    with pytest.raises(SpecError, match="reading: lenient: expected strict or explicit"):
        resolve(full.spec, environment)


def test_a_way_of_asking_that_there_is_not_is_a_defect(full, environment) -> None:
    full.spec.answer = "constrained"
    with pytest.raises(SpecError, match="answer: constrained: expected free"):
        resolve(full.spec, environment)
