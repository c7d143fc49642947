"""Policies in requests."""

import hashlib
from dataclasses import dataclass

from safescale.core.decisions.policy import Policy
from safescale.core.decisions.policy_file import parse_policy
from safescale.core.errors import LimitExceededError
from safescale.core.inputs.records import Source
from safescale.core.safety.metrics import METRIC_NAMES
from safescale.runtime.files.reading import parse_yaml

MAX_POLICY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PolicyText:
    """Name of a policy, and the SHA-256 of its text in hex."""

    name: str
    sha256: str


def text_of(policy: Policy, text: str) -> PolicyText:
    """Return what a policy is known by."""
    return PolicyText(policy.name, hashlib.sha256(text.encode()).hexdigest())


def read_policy(text: str) -> Policy:
    """Return the policy of YAML or JSON text. Takes long for a large text: not to be called on an event loop.

    Raises:
        LimitExceededError: the text is too long.
        SpecError: the text is no policy; every defect is named.

    """
    size = len(text.encode())
    if size > MAX_POLICY_BYTES:
        raise LimitExceededError(f"the policy has {size:,} bytes; the limit is {MAX_POLICY_BYTES:,}")
    return parse_policy(parse_yaml(Source("policy", text.encode())), "policy", METRIC_NAMES)
