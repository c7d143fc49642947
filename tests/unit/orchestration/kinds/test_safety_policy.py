"""The policy that a spec registers, in the manifest before the first answer."""

import hashlib

import pytest

from safescale.core.errors import SpecError
from safescale.orchestration.identity import differences, digest_of
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.orchestration.kinds.safety_policy import MAX_POLICY_BYTES
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

TEXT = "name: ward\nrequirements: [{metric: accuracy, min: 0.9}]\n"
SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.fixture
def environment(benchmark, models, corpora) -> Environment:
    return Environment(benchmark, models, corpora)


def test_name_and_hash_are_taken_from_the_text(spec, environment) -> None:
    spec.policy.text = TEXT
    found = resolve(spec, environment).spec.policy
    assert (found.name, found.sha256, found.text) == ("ward", SHA256, TEXT)


def test_the_text_may_stay_with_its_author(spec, environment) -> None:
    spec.policy.name, spec.policy.sha256 = "ward", SHA256
    assert resolve(spec, environment).spec.policy == pb.RegisteredPolicy(name="ward", sha256=SHA256)


def test_a_run_without_a_policy_is_what_it_was(spec, environment) -> None:
    assert not resolve(spec, environment).spec.HasField("policy")


def test_another_text_makes_another_run(spec, environment) -> None:
    plain = resolve(spec, environment)
    spec.policy.text = TEXT
    first = resolve(spec, environment)
    spec.policy.text = TEXT + "# changed\n"
    second = resolve(spec, environment)
    assert len({digest_of(each) for each in (plain, first, second)}) == 3
    (difference,) = differences(first, second)
    assert difference.startswith(f"policy: sha256 was {SHA256} and is ")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"text": "requirements: []"}, r"policy: policy: requirements = \[\]; expected a list of requirements"),
        ({"text": "a: ["}, "valid YAML"),
        ({"text": TEXT, "sha256": "0" * 64}, "policy.sha256: 000.*: is not that of its text"),
        ({"text": TEXT, "name": "other"}, "policy.name: other: is not that of its text, which is ward"),
        ({"text": "#" * (MAX_POLICY_BYTES + 1)}, "policy: 16,385 bytes: expected at most 16,384"),
        ({"name": "ward"}, "policy.sha256: expected the policy's text, or 64 hex digits"),
        ({"sha256": "abc"}, "policy.sha256: abc: expected the policy's text"),
        ({"sha256": SHA256, "name": "a\x1b[2J"}, r"policy.name: U\+001B"),
    ],
)
def test_policies_that_cannot_be_registered_are_named(spec, environment, policy: dict[str, str], expected: str) -> None:
    spec.policy.CopyFrom(pb.RegisteredPolicy(**policy))
    with pytest.raises(SpecError, match=expected):
        resolve(spec, environment)


def test_a_stored_run_goes_on_whatever_policies_are_today(spec, environment) -> None:
    spec.policy.text = "requirements: a form of a later version"
    spec.policy.sha256 = "0" * 64
    assert resolve(spec, environment, accepted=True).spec.policy == spec.policy
