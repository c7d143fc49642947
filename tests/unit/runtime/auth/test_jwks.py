"""Keys of an issuer: which are used, when they are asked for, and what a fetch that fails does."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from safescale.core.errors import DependencyUnavailableError, InvalidInputError
from safescale.runtime.auth import jwks
from safescale.runtime.auth.jwks import FileKeys, IssuerKeys, chosen, fetch_json, keys_of

ISSUER = "https://id.example"
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())


def jwk(key, kid: str, **more: str) -> dict[str, str]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


class Issuer:
    """Publishes keys, counts fetches, and can be away. Time stands still until it is moved."""

    def __init__(self) -> None:
        self.keys = [jwk(RSA, "one")]
        self.document = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        self.asked: list[str] = []
        self.away = False
        self.now = 1000.0

    def fetch(self, url: str):
        self.asked.append(url)
        if self.away:
            raise OSError("no route")
        return {"keys": self.keys} if url.endswith("/keys") else self.document

    def source(self) -> IssuerKeys:
        return IssuerKeys(ISSUER, self.fetch, lambda: self.now)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


async def test_keys_are_found_by_discovery_and_kept(issuer: Issuer) -> None:
    source = issuer.source()
    assert await source.find("one", "RS256")
    assert await source.find("one", "PS256")
    assert issuer.asked == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"]


async def test_a_new_key_is_asked_for_but_not_for_each_unknown_name(issuer: Issuer) -> None:
    source = issuer.source()
    await source.find("one", "RS256")
    issuer.keys.append(jwk(EC, "two"))
    for _ in range(5):
        assert await source.find("two", "ES256") is None
    assert len(issuer.asked) == 2
    issuer.now += jwks.COOLDOWN_S
    assert await source.find("two", "ES256")
    for i in range(5):
        assert await source.find(f"made-up-{i}", "ES256") is None
    assert len(issuer.asked) == 4


async def test_a_key_that_is_taken_back_is_no_longer_used(issuer: Issuer) -> None:
    source = issuer.source()
    await source.find("one", "RS256")
    issuer.keys[:] = [jwk(EC, "two")]
    issuer.now += jwks.FRESH_S
    assert await source.find("one", "RS256") is None


async def test_known_keys_outlive_an_issuer_that_is_away_for_a_time(issuer: Issuer) -> None:
    source = issuer.source()
    await source.find("one", "RS256")
    issuer.away = True
    issuer.now += jwks.STALE_S - 1
    assert await source.find("one", "RS256")
    with pytest.raises(DependencyUnavailableError):
        await source.find("two", "RS256")
    issuer.now += 1
    with pytest.raises(DependencyUnavailableError, match="keys of the OIDC issuer cannot be had now"):
        await source.find("one", "RS256")
    asked = len(issuer.asked)
    with pytest.raises(DependencyUnavailableError):
        await source.find("one", "RS256")
    assert len(issuer.asked) == asked
    issuer.away = False
    issuer.now += jwks.RETRY_S
    assert await source.find("one", "RS256")


async def test_many_callers_ask_once(issuer: Issuer) -> None:
    source = issuer.source()
    found = await asyncio.gather(*(source.find("one", "RS256") for _ in range(20)))
    assert all(found)
    assert len(issuer.asked) == 2


@pytest.mark.parametrize(
    "document",
    [{"issuer": "https://other.example", "jwks_uri": f"{ISSUER}/keys"}, {"issuer": ISSUER}, [],
     {"issuer": ISSUER, "jwks_uri": "http://id.example/keys"}, {"issuer": ISSUER, "jwks_uri": "file:///etc/keys"}],
)  # fmt: skip
async def test_a_discovery_document_of_something_else_is_not_followed(issuer: Issuer, document) -> None:
    issuer.document = document
    with pytest.raises(DependencyUnavailableError):
        await issuer.source().find("one", "RS256")
    assert len(issuer.asked) == 1


def test_keys_that_are_weak_or_for_something_else_are_passed_over() -> None:
    found = keys_of(
        {"keys": [jwk(SMALL, "small"), jwk(P384, "p384"), jwk(RSA, "enc", use="enc"), {"kty": "oct", "k": "c2VjcmV0"},
                  {"kty": "RSA", "kid": "broken"}, 7, jwk(RSA, "only-ps", alg="PS256", use="sig"), jwk(EC, "ec")]}
    )  # fmt: skip
    assert [(key.kid, key.algorithms) for key in found] == [("only-ps", {"PS256"}), ("ec", {"ES256"})]
    assert chosen(found, "only-ps", "RS256") is None
    assert chosen(found, "", "ES256") is found[1]
    with pytest.raises(ValueError, match="no key for"):
        keys_of({"keys": [jwk(SMALL, "small")]})
    with pytest.raises(ValueError, match="no JWKS"):
        keys_of([])


def test_without_a_name_no_key_is_guessed() -> None:
    found = keys_of({"keys": [jwk(RSA, "a"), jwk(RSA, "b")]})
    assert chosen(found, "", "RS256") is None


async def test_a_file_of_keys_is_read_again(tmp_path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(RSA, "one")]}))
    source = FileKeys(file, check_s=0)
    assert await source.find("one", "RS256")
    file.write_text(json.dumps({"keys": [jwk(EC, "two")]}))
    assert await source.find("two", "ES256")
    assert await source.find("one", "RS256") is None
    file.write_text("{}")
    assert await source.find("two", "ES256")
    with pytest.raises(InvalidInputError, match=r"SAFESCALE_OIDC_JWKS_FILE .*jwks\.json cannot be used: no JWKS"):
        FileKeys(file)


@pytest.fixture
def web() -> Iterator[str]:
    """An issuer over HTTP that also sends elsewhere, sends too much, and sends what is no JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {
                "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
                "/keys": {"keys": [jwk(RSA, "one")]},
                "/large": ["x" * jwks.MAX_BYTES],
            }
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("Location", f"{url}/keys")
            self.end_headers()
            self.wfile.write(json.dumps(answers[self.path]).encode() if self.path in answers else b"<html>")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


async def test_keys_come_over_http(web: str) -> None:
    assert await IssuerKeys(web).find("one", "RS256")


def test_redirects_too_much_and_no_json_are_errors(web: str) -> None:
    with pytest.raises(OSError, match="302"):
        fetch_json(f"{web}/moved")
    with pytest.raises(ValueError, match="over 1048576 bytes"):
        fetch_json(f"{web}/large")
    with pytest.raises(ValueError, match="Expecting value"):
        fetch_json(f"{web}/page")
