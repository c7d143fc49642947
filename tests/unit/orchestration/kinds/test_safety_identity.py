"""Whether a stored safety run can go on: what has changed since it was made is named."""

import pytest

from safescale.core.errors import FailedPreconditionError, SpecError
from safescale.orchestration.identity import digest_of
from safescale.orchestration.kinds.safety_identity import check_unchanged
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb


def test_a_run_whose_name_is_not_taken_any_more_goes_on(full, environment) -> None:
    full.spec.name = "ward\tA"
    with pytest.raises(SpecError, match="name"):
        resolve(full.spec, environment)
    check_unchanged(pb.Run(run_id="old", manifest=full), environment)


def test_every_difference_is_named_with_both_values(full, environment) -> None:
    run = pb.Run(run_id="r", manifest=full)
    environment.models["small"].revision = "r2"
    environment.models["small"].instruct = False
    environment.models["other"].served_model = "adapter-v2"
    environment.corpora["c1"].embedder = "minilm@2"
    with pytest.raises(FailedPreconditionError) as caught:
        check_unchanged(run, environment)
    for part in (
        "model small: revision was r1 and is r2",
        "model small: instruct was true and is false",
        "judge other: served model was other-v1 and is adapter-v2",
        "agent other: served model was other-v1 and is adapter-v2",
        "embedder was minilm@1 and is minilm@2",
    ):
        assert part in caught.value.message


def test_a_server_that_is_away_may_come_back(full, environment) -> None:
    run = pb.Run(run_id="r", manifest=full)
    for name in ("small", "other"):
        row = environment.models[name]
        row.backend = "tgi"
        row.available, row.unavailable_reason, row.revision, row.fingerprint = False, "no answer", "", ""
        row.supports_scores = False
    for each in (full.models[0], full.judge, full.agent):
        each.backend = "tgi"
    run.manifest.CopyFrom(full)
    check_unchanged(run, environment)
    # What the catalog itself says is compared all the same.
    environment.models["small"].served_model = "v9"
    with pytest.raises(FailedPreconditionError, match="served model was small-v1 and is v9"):
        check_unchanged(run, environment)


def test_a_run_whose_model_or_corpus_is_gone_cannot_go_on(full, environment) -> None:
    run = pb.Run(run_id="r", manifest=full)
    searching = pb.Run(run_id="r", manifest=full)
    searching.manifest.spec.conditions.append("top_1")
    with pytest.raises(FailedPreconditionError, match="c1: is not ingested"):
        check_unchanged(searching, Environment(environment.benchmark, environment.models, {}))
    environment.models["other"].available = False
    with pytest.raises(FailedPreconditionError, match="other: is not available"):
        check_unchanged(run, environment)
    del environment.models["small"]
    with pytest.raises(FailedPreconditionError, match="small: is not in the catalog"):
        check_unchanged(run, environment)


def test_names_and_validation_are_those_of_the_run_that_states_them(spec, benchmark, models, corpora) -> None:
    environment = Environment(benchmark, models, corpora)
    silent = resolve(spec, environment)
    assert (silent.benchmark_name, silent.clinician_validated) == ("bench", False)
    spec.benchmark_name, spec.clinician_validated = "mine", True
    stated = resolve(spec, environment)
    assert (stated.benchmark_name, stated.clinician_validated) == ("mine", True)
    assert digest_of(stated) != digest_of(silent)
    spec.benchmark_name, spec.clinician_validated = "bench", False
    # To state what would be taken anyway makes no other run.
    assert digest_of(resolve(spec, environment)) == digest_of(silent)
    spec.corpus_id, spec.corpus_name = "c1", "guidelines"
    assert resolve(spec, environment).corpus_name == "guidelines"
