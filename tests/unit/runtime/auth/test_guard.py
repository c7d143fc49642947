"""Who is let in, and what they may do."""

import json
import time
from pathlib import Path
from typing import get_args

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from safescale.core.errors import InvalidInputError, PermissionDeniedError, UnauthenticatedError
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.retrieval.v1 import retrieval_pb2
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.runtime.auth.audit import WRITES
from safescale.runtime.auth.guard import Guard, guard_of
from safescale.runtime.auth.oidc import roles_in
from safescale.runtime.auth.roles import HELD, METHODS, OPEN, Role, held
from safescale.runtime.auth.tokens import PREFIX, check_name, entry, new_token, read_tokens
from safescale.runtime.settings import Settings

ISSUER = "https://id.example/realm"
AUDIENCE = "safescale"
LIST = "/safescale.orchestration.v1.OrchestrationService/ListRuns"
CANCEL = "/safescale.orchestration.v1.OrchestrationService/CancelRun"

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def jwk(key, kid: str, **more: str) -> dict[str, str]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


def made(key=RSA, algorithm: str = "RS256", headers: dict | None = None, **changes) -> str:
    """A token that is let in, but for what is changed; a claim of None is left out."""
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user-7", "iat": now, "exp": now + 86_400,
        "roles": ["runner"], **changes,
    }  # fmt: skip
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm, {"kid": "rsa", **(headers or {})})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("auth")
    (found / "tokens.yaml").write_text("tokens:\n" + entry("ward-3", "the-secret", "viewer"))
    (found / "jwks.json").write_text(json.dumps({"keys": [jwk(RSA, "rsa"), jwk(EC, "ec")]}))
    return found


@pytest.fixture(scope="module")
def guard(folder: Path) -> Guard:
    found = guard_of(
        Settings(
            tokens_file=folder / "tokens.yaml",
            oidc_issuer=ISSUER,
            oidc_audience=AUDIENCE,
            oidc_jwks_file=folder / "jwks.json",
        )
    )
    assert found is not None
    return found


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def test_every_method_of_the_protos_has_a_role_and_nothing_else_has() -> None:
    declared = {
        f"/{service.full_name}/{method.name}"
        for module in (inference_pb2, orchestration_pb2, retrieval_pb2, scoring_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(METHODS) == declared
    assert not [method for method in METHODS if method.startswith(OPEN)]
    assert set(METHODS.values()) <= set(get_args(Role))


def test_every_write_needs_more_than_a_viewer() -> None:
    assert {METHODS[method] for method in WRITES} == {"runner", "reviewer", "admin"}


def test_roles_hold_those_before_them() -> None:
    assert held(["reviewer"]) == {"viewer", "reviewer"}
    assert held(["runner", "nonsense"]) == {"viewer", "runner"}
    assert held(["admin"]) == set(get_args(Role))
    assert held([]) == held(["Admin", "root"]) == frozenset()
    assert set(HELD) == set(get_args(Role))


async def test_a_token_of_the_file_is_let_in_with_its_role(guard: Guard) -> None:
    found = await guard.admit(LIST, bearer("the-secret"))
    assert (found.name, found.kind) == ("ward-3", "token")
    with pytest.raises(PermissionDeniedError, match="CancelRun needs the role runner; ward-3") as refused:
        await guard.admit(CANCEL, bearer("the-secret"))
    assert refused.value.details == {"role": "runner"}


async def test_a_method_without_a_role_is_refused_to_everybody(guard: Guard) -> None:
    with pytest.raises(PermissionDeniedError, match="nobody may call"):
        await guard.admit("/safescale.new.v1.NewService/New", bearer(guard.own_token))


async def test_this_process_itself_is_let_in(guard: Guard) -> None:
    assert (await guard.admit(CANCEL, bearer(guard.own_token))).kind == "process"


@pytest.mark.parametrize(
    "metadata",
    [[], [("authorization", "")], [("authorization", "Basic dTpw")], [("authorization", "Bearer")],
     [("authorization", "Bearer a b")], [("authorization", b"Bearer x")], [("other", "Bearer the-secret")]],
)  # fmt: skip
async def test_what_is_no_bearer_token_is_refused(guard: Guard, metadata) -> None:
    with pytest.raises(UnauthenticatedError):
        await guard.admit(LIST, metadata)


@given(token=st.one_of(st.text(max_size=200), st.from_regex(r"[\w-]{0,60}\.[\w-]{0,60}\.[\w-]{0,60}", fullmatch=True)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_garbage_is_refused_and_never_shown(guard: Guard, token: str) -> None:
    with pytest.raises(UnauthenticatedError) as refused:
        await guard.admit(LIST, bearer(token))
    assert len(token) < 12 or token not in refused.value.message


@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "jwk", "crit", "b64"]), st.from_type(object).map(str)),
    claims=st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "roles"]),
        st.one_of(st.none(), st.integers(), st.text(max_size=9), st.lists(st.integers(), max_size=2), st.booleans()),
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
async def test_odd_headers_and_claims_are_refused(guard: Guard, header: dict, claims: dict) -> None:
    import base64

    def part(value: dict) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    signed = f"{part({'alg': 'RS256', 'kid': 'rsa', **header})}.{part(claims)}"
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(signed.encode(), RSA)
    token = f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    with pytest.raises(UnauthenticatedError):
        await guard.admit(LIST, bearer(token))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (EC, "ES256", "ec")]
)
async def test_tokens_of_the_issuer_are_let_in(guard: Guard, key, algorithm: str, kid: str) -> None:
    found = await guard.admit(CANCEL, bearer(made(key, algorithm, {"kid": kid})))
    assert (found.name, found.kind, found.roles) == ("user-7", "oidc", {"viewer", "runner"})


NOW = int(time.time())


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (made(exp=NOW - 60), "has expired"),
        (made(aud="other"), "another audience"),
        (made(iss="https://evil.example"), "another issuer"),
        (made(nbf=NOW + 43_200), "cannot be verified"),
        (made(OTHER), "cannot be verified"),
        (made(headers={"kid": "none"}), "does not publish"),
        (made(headers={"kid": "ec"}), "does not publish"),
        (made(sub=None), "lacks one of"),
        (made(exp=None), "lacks one of"),
        (made(aud=None), "another audience|lacks one of"),
        (made("s" * 64, "HS256"), "its signature is none of"),
        (made(RSA, "RS512"), "its signature is none of"),
        (jwt.encode({"sub": "user-7"}, None, "none"), "its signature is none of"),
        (made(sub="x" * 300), "subject"),
    ],
)
async def test_other_tokens_are_refused_with_a_reason(guard: Guard, token: str, why: str) -> None:
    with pytest.raises(UnauthenticatedError, match=why) as refused:
        await guard.admit(LIST, bearer(token))
    assert token.split(".")[2] not in refused.value.message or not token.split(".")[2]


async def test_clocks_may_differ_a_little(guard: Guard) -> None:
    assert await guard.admit(LIST, bearer(made(exp=int(time.time()) - 5)))


async def test_a_token_without_a_role_may_nothing(guard: Guard) -> None:
    with pytest.raises(PermissionDeniedError, match="ListRuns needs the role viewer"):
        await guard.admit(LIST, bearer(made(roles=None)))


async def test_a_public_key_is_never_taken_for_a_shared_secret(guard: Guard) -> None:
    import base64
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _, claims, _ = made(roles=["admin"]).split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').decode().rstrip("=")
    mac = hmac.new(public, f"{header}.{claims}".encode(), hashlib.sha256).digest()
    token = f"{header}.{claims}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    with pytest.raises(UnauthenticatedError):
        await guard.admit(LIST, bearer(token))


def test_roles_are_found_in_objects_lists_and_text() -> None:
    assert roles_in({"roles": ["a", 1, "b"]}, "roles") == ["a", "b"]
    assert roles_in({"roles": "a b"}, "roles") == ["a", "b"]
    assert roles_in({"resource_access": {"safescale": {"roles": ["a"]}}}, "resource_access.safescale.roles") == ["a"]
    assert roles_in({"https://x.example/roles": ["a"]}, "https://x.example/roles") == ["a"]
    assert roles_in({"roles": {"a": 1}}, "roles") == roles_in({}, "a.b") == roles_in({"a": 1}, "a.b") == []


def test_new_tokens_differ_and_their_entry_is_read(tmp_path: Path) -> None:
    token = new_token()
    assert token.startswith(PREFIX)
    assert len({token, new_token()}) == 2
    file = tmp_path / "tokens.yaml"
    file.write_text("tokens:\n" + entry("ward-3", token, "reviewer"))
    assert token not in file.read_text()
    (identity,) = read_tokens(file).values()
    assert (identity.name, identity.roles) == ("ward-3", {"viewer", "reviewer"})
    with pytest.raises(InvalidInputError, match="expected 1 to 64 letters"):
        check_name("a name, with blanks")


SHA = "0" * 64


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected `tokens:` and a list"),
        ("tokens: []", "expected `tokens:` and a list"),
        ("tokens: [{name: a}]", "token 1 is wrong; expected the fields name, sha256, role"),
        (f"tokens: [{{name: a, sha256: '{SHA}', role: root}}]", "role = .root.; expected one of viewer, reviewer"),
        (f"tokens: [{{name: a, sha256: '{SHA}', role: [1]}}]", "role = .*; expected one of viewer, reviewer"),
        (f"tokens: [{{name: 'a b', sha256: '{SHA}', role: viewer}}]", "name = .a b.; expected 1 to 64"),
        ("tokens: [{name: a, sha256: my-token, role: viewer}]", r"token 1 \(a\): sha256 is wrong; expected 64 hex"),
        (f"tokens: [{{name: a, sha256: '{SHA}', role: viewer}}, {{name: b, sha256: '{SHA}', role: viewer}}]",
         "token 2 has the sha256 of another"),
        ("tokens: [", "cannot be read; expected a file in YAML"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_tokens_file_is_named(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=why) as refused:
        read_tokens(file)
    assert str(file) in refused.value.message
    assert "my-token" not in refused.value.message


@pytest.mark.parametrize(
    ("settings_", "why"),
    [
        (Settings(oidc_audience="a"), "SAFESCALE_OIDC_ISSUER is empty"),
        (Settings(oidc_jwks_file="keys"), "SAFESCALE_OIDC_ISSUER is empty"),
        (Settings(oidc_issuer="http://id.example", oidc_audience="a"), "expected an https:// URL"),
        (Settings(oidc_issuer="id", oidc_audience="a"), "expected an https:// URL"),
        (Settings(oidc_issuer="https://[", oidc_audience="a"), "expected an https:// URL"),
        (Settings(oidc_issuer=ISSUER), "SAFESCALE_OIDC_AUDIENCE is empty"),
        (Settings(oidc_issuer=ISSUER, oidc_audience="a", oidc_jwks_file="none"), "JWKS_FILE none cannot be used"),
        (Settings(tokens_file="none"), "SAFESCALE_TOKENS_FILE none cannot be read"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings_: Settings, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        guard_of(settings_)


def test_without_settings_nothing_is_asked() -> None:
    assert guard_of(Settings()) is None
