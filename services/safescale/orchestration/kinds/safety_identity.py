"""Whether a safety run can go on as it was made: its manifest against the one that its spec would give now."""

from collections.abc import Mapping
from dataclasses import replace

from safescale.core.errors import FailedPreconditionError, SpecError
from safescale.orchestration.identity import differences
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb


def check_unchanged(run: pb.Run, environment: Environment) -> None:
    """Return when a run would be made today as it was made; a model server that is away may come back.

    Raises:
        FailedPreconditionError: it would not, with each difference, or it cannot go on at all.

    """
    try:
        fresh = resolve(_spec_of(run.manifest), _expected(run.manifest, environment), accepted=True)
    except SpecError as error:
        raise FailedPreconditionError(f"run {run.run_id} cannot go on as it was made: {error.message}") from error
    if found := differences(run.manifest, fresh):
        raise FailedPreconditionError(
            f"run {run.run_id} cannot go on: the answers of one run come from one setting, and it has changed since. "
            f"{'; '.join(found)}. Restore that, or measure anew with another run"
        )


def _spec_of(manifest: pb.Manifest) -> pb.RunSpec:
    """Return the spec of a run; names that the first version took from the import without stating them are its own."""
    spec = pb.RunSpec()
    spec.CopyFrom(manifest.spec)
    spec.benchmark_name = spec.benchmark_name or manifest.benchmark_name
    spec.corpus_name = spec.corpus_name or manifest.corpus_name
    if not spec.HasField("clinician_validated"):
        spec.clinician_validated = manifest.clinician_validated
    return spec


def _expected(manifest: pb.Manifest, environment: Environment) -> Environment:
    """Return the environment with what the run knows: a model whose server is away, the questions that it drew."""
    asked = [*manifest.models, *(each for each in (manifest.judge, manifest.agent) if each.id)]
    known: Mapping[str, pb.ManifestModel] = {model.id: model for model in asked}
    models = dict(environment.models)
    spec = manifest.spec
    for name in {*spec.models, spec.judge_model, spec.agent_model} & set(models):
        # A model of this process that is not installed does not come back by itself.
        if not models[name].available and models[name].backend != "embedded":
            models[name] = _awaited(models[name], known.get(name))
    drawn = replace(environment.drawn, settled=tuple(manifest.question_ids))
    return replace(environment, models=models, drawn=drawn)


def _awaited(row: inference_pb2.Model, known: pb.ManifestModel | None) -> inference_pb2.Model:
    """Return a row whose server is away as if it were back unchanged; its answers are checked against that later."""
    found = inference_pb2.Model()
    found.CopyFrom(row)
    found.available = found.supports_scores = True
    found.revision = known.revision if known else ""
    found.fingerprint = known.fingerprint if known else ""
    return found
