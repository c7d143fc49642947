"""The identity of a run: the digest of its manifest, and how two manifests differ."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from safescale.core.safety.answers.reading import STRICT, reading_version
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

_PACKAGE = "safescale.orchestration.v1"

NOT_COMPARED = frozenset({f"{_PACKAGE}.Manifest.package_version", f"{_PACKAGE}.RegisteredPolicy.text"})
"""An upgrade alone changes no answer: what it does change has a version of its own. A text has a SHA-256 beside it."""

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

READING = f"{_PACKAGE}.RunSpec.reading"
"""Empty for the strict one: a manifest that states it is no other."""

MAY_BE_UNKNOWN = frozenset({"revision", "fingerprint", "judge_revision", "agent_revision"})
"""Facts that a server states: empty while unknown, and then no difference. Each request is checked anyway."""


def digest_of(manifest: pb.Manifest) -> str:
    """Return the SHA-256 (hex) of the manifest's canonical JSON: keys sorted, no white space, empty fields left out."""
    body = json_format.MessageToDict(manifest, preserving_proto_field_name=True)
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differences(stored: pb.Manifest, fresh: pb.Manifest) -> list[str]:
    """Return each difference between what a run was made with and what it would be made with now, a sentence part each.

    Fields that the version which made the run did not state are not compared.
    """
    return list(_compared(stored, fresh, "", stated=bool(stored.reading_version)))


def _compared(stored: Any, fresh: Any, where: str, *, stated: bool) -> Iterator[str]:
    for field in stored.DESCRIPTOR.fields:
        if field.full_name in NOT_COMPARED or (not stated and field.full_name in NOT_STATED_AT_FIRST):
            continue
        old, new = getattr(stored, field.name), getattr(fresh, field.name)
        if field.full_name == READING and (old or STRICT) == (new or STRICT):
            continue
        if old == new or (field.name in MAY_BE_UNKNOWN and not (old and new)):
            continue
        if field.message_type is None:
            yield f"{where}{_words(field.name)} was {_shown(field, old)} and is {_shown(field, new)}"
        elif not field.is_repeated:
            yield from _compared(old, new, _within(field, old), stated=stated)
        elif field.name == "models" and [each.id for each in old] == [each.id for each in new]:
            for before, now in zip(old, new, strict=True):
                yield from _compared(before, now, f"model {before.id}: ", stated=stated)
        else:
            yield f"{where}{_words(field.name)} changed"


def _within(field: FieldDescriptor, value: Any) -> str:
    """Return what stands before the differences within a message: its field, and its id where it has one."""
    if field.name == "spec":
        return ""
    return f"{_words(field.name)} {getattr(value, 'id', '')}".rstrip() + ": "


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
    """Return whether the run of a manifest is a stored one: of the same digest, or made in the same setting.

    A finished run that another version of this software made is left alone: measuring anew is what is meant then. An
    unfinished one that states no reading goes on with the strict one, the only one that there was.
    """
    if run.digest == digest:
        return True
    if not run.manifest.spec.reading and run.state != pb.RUN_STATE_COMPLETED:
        manifest = _read_strictly(manifest)
    same_version = run.manifest.package_version == manifest.package_version
    return (same_version or run.state != pb.RUN_STATE_COMPLETED) and not differences(run.manifest, manifest)


def _read_strictly(manifest: pb.Manifest) -> pb.Manifest:
    strict = pb.Manifest()
    strict.CopyFrom(manifest)
    strict.spec.ClearField("reading")
    strict.reading_version = reading_version(STRICT)
    return strict
