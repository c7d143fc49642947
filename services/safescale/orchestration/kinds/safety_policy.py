"""The policy that a run registers: what it will be judged by is in its manifest before the first answer."""

import hashlib
import re

from safescale.core.decisions.policy_file import parse_policy
from safescale.core.errors import Defect, SpecError
from safescale.core.inputs.records import Source
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.metrics import METRIC_NAMES
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.files.reading import parse_yaml

MAX_POLICY_BYTES = 16 * 1024
"""Bytes of a registered policy: it is part of the manifest, of which lists of runs hold many."""

DEFECTS_AT_MOST = 20

_SHA256 = re.compile(r"[0-9a-f]{64}")


def policy_defects(spec: pb.RunSpec) -> list[Defect]:
    """Return what is wrong with the policy that a spec registers; its text may stay with its author."""
    stated = spec.policy
    if not stated.text:
        return _bare_defects(stated) if spec.HasField("policy") else []
    size = len(stated.text.encode())
    if size > MAX_POLICY_BYTES:
        return [_defect("policy", f"{size:,} bytes", f"expected at most {MAX_POLICY_BYTES:,}")]
    try:
        found = _registered(stated.text)
    except SpecError as error:
        return [_defect("policy", "", str(defect)) for defect in error.defects[:DEFECTS_AT_MOST]]
    return [
        _defect(f"policy.{field}", given[:100], f"is not that of its text, which is {real}")
        for field, given, real in (("name", stated.name, found.name), ("sha256", stated.sha256, found.sha256))
        if given not in {"", real}
    ]


def _bare_defects(stated: pb.RegisteredPolicy) -> list[Defect]:
    defects = []
    if not _SHA256.fullmatch(stated.sha256):
        defects.append(_defect("policy.sha256", stated.sha256[:100], "expected the policy's text, or 64 hex digits"))
    if (fault := name_fault(stated.name)) is not None:
        defects.append(_defect("policy.name", fault[0], f"expected {fault[1]}"))
    return defects


def fill_in_policy(spec: pb.RunSpec) -> None:
    """State name and SHA-256 of a policy whose text is given, and which `policy_defects` has found none of."""
    if spec.policy.text and not spec.policy.sha256:
        spec.policy.CopyFrom(_registered(spec.policy.text))


def _registered(text: str) -> pb.RegisteredPolicy:
    policy = parse_policy(parse_yaml(Source("policy", text.encode())), "policy", METRIC_NAMES)
    return pb.RegisteredPolicy(name=policy.name, sha256=hashlib.sha256(text.encode()).hexdigest(), text=text)


def _defect(field: str, value: str, expected: str) -> Defect:
    return Defect("run spec", None, None, field, value, expected)
