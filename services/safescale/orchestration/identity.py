"""Whether a run is still the one that it was: its manifest against the one that the system would make of it now."""

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from safescale.core.errors import FailedPreconditionError, SpecError
from safescale.orchestration.kinds.safety_manifest import Surroundings, resolve
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

_PACKAGE = "safescale.orchestration.v1"

NOT_COMPARED = frozenset({f"{_PACKAGE}.Manifest.package_version"})
"""An upgrade alone changes no answer: what it does change has a version of its own."""

NOT_STATED_AT_FIRST = frozenset(
    {
        *(f"{_PACKAGE}.Manifest.{name}" for name in ("judge", "agent", "agent_version", "reading_version")),
        *(
            f"{_PACKAGE}.ManifestModel.{name}"
            for name in ("instruct", "reasoning_style", "served_model", "fingerprint")
        ),
        *(f"{_PACKAGE}.RunSpec.{name}" for name in ("review", "clinician_validated", "benchmark_name", "corpus_name")),
    }
)
"""Fields that the manifests of version 0.1.0 do not have. Such a manifest states no reading version either."""

MAY_BE_UNKNOWN = frozenset({"revision", "fingerprint", "judge_revision", "agent_revision"})
"""Facts that a server tells: empty while they are not known, and then no difference. Each request is checked anyway."""


def differences(stored: pb.Manifest, fresh: pb.Manifest) -> list[str]:
    """Each difference between what a run was made with and what it would be made with now, a sentence part each.

    Fields that the version which made the run did not state are not compared.
    """
    return list(_compared(stored, fresh, "", stated=bool(stored.reading_version)))


def _compared(stored: Any, fresh: Any, where: str, *, stated: bool) -> Iterator[str]:
    for field in stored.DESCRIPTOR.fields:
        if field.full_name in NOT_COMPARED or (not stated and field.full_name in NOT_STATED_AT_FIRST):
            continue
        old, new = getattr(stored, field.name), getattr(fresh, field.name)
        if old == new or (field.name in MAY_BE_UNKNOWN and not (old and new)):
            continue
        if field.message_type is None:
            yield f"{where}{_words(field.name)} was {_shown(field, old)} and is {_shown(field, new)}"
        elif not field.is_repeated:
            yield from _compared(old, new, "" if field.name == "spec" else f"{field.name} {old.id}: ", stated=stated)
        elif field.name == "models" and [each.id for each in old] == [each.id for each in new]:
            for before, now in zip(old, new, strict=True):
                yield from _compared(before, now, f"model {before.id}: ", stated=stated)
        else:
            yield f"{where}{_words(field.name)} changed"


def _words(field: str) -> str:
    return field.replace("_", " ")


def _shown(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None and not field.is_repeated:
        found = field.enum_type.values_by_number.get(value)
        return found.name.lower() if found else f"{value}"
    if field.is_repeated:
        items = [str(each) for each in value]
        return f"{len(items)} ({', '.join(items[:5])}{', …' if len(items) > 5 else ''})"
    if isinstance(value, bool):
        return "true" if value else "false"
    return (str(value) if isinstance(value, str) else f"{value:g}") or "none"


def continues(run: pb.Run, manifest: pb.Manifest, digest: str) -> bool:
    """Whether the run of a manifest is a stored one: of the same digest, or made in the same setting.

    A finished run that another version of this software made is left alone: measuring anew is what is meant then.
    """
    if run.digest == digest:
        return True
    same_version = run.manifest.package_version == manifest.package_version
    return (same_version or run.state != pb.RUN_STATE_COMPLETED) and not differences(run.manifest, manifest)


def check_unchanged(run: pb.Run, around: Surroundings) -> None:
    """Return when a run would be made today as it was made; a model server that is away may come back.

    Raises:
        FailedPreconditionError: it would not, with each difference, or it cannot go on at all.

    """
    try:
        fresh = resolve(_spec_of(run.manifest), _expected(run.manifest, around), accepted=True)
    except SpecError as error:
        raise FailedPreconditionError(f"run {run.run_id} cannot go on as it was made: {error.message}") from error
    if found := differences(run.manifest, fresh):
        raise FailedPreconditionError(
            f"run {run.run_id} cannot go on: the answers of one run come from one setting, and it has changed since. "
            f"{'; '.join(found)}. Restore that, or measure anew with another run"
        )


def _spec_of(manifest: pb.Manifest) -> pb.RunSpec:
    """What was asked; names that the first version took from the import without stating them are the run's own."""
    spec = pb.RunSpec()
    spec.CopyFrom(manifest.spec)
    spec.benchmark_name = spec.benchmark_name or manifest.benchmark_name
    spec.corpus_name = spec.corpus_name or manifest.corpus_name
    if not spec.HasField("clinician_validated"):
        spec.clinician_validated = manifest.clinician_validated
    return spec


def _expected(manifest: pb.Manifest, around: Surroundings) -> Surroundings:
    """The surroundings with what the run knows of a model in place of a server that is away."""
    asked = [*manifest.models, *(each for each in (manifest.judge, manifest.agent) if each.id)]
    known: Mapping[str, pb.ManifestModel] = {model.id: model for model in asked}
    models = dict(around.models)
    spec = manifest.spec
    for name in {*spec.models, spec.judge_model, spec.agent_model} & set(models):
        # A model of this process that is not installed does not come back by itself.
        if not models[name].available and models[name].backend != "embedded":
            models[name] = _awaited(models[name], known.get(name))
    return Surroundings(around.benchmark, models, around.corpora)


def _awaited(row: inference_pb2.Model, known: pb.ManifestModel | None) -> inference_pb2.Model:
    """A row whose server is away, as if it were back unchanged. Its answers are checked against that when it is."""
    found = inference_pb2.Model()
    found.CopyFrom(row)
    found.available = found.supports_scores = True
    found.revision = known.revision if known else ""
    found.fingerprint = known.fingerprint if known else ""
    return found
