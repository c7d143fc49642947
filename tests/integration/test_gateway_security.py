"""The gateway over HTTPS before protected services, a whole host with TLS and tokens, and the probe of both."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.support.certificates import Authority, Files, serial

from safescale.app.host import Host, HostOptions
from safescale.client import AsyncScoringClient, ClientOptions
from safescale.core.errors import InvalidInputError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from safescale.gateway.config import gateway_config
from safescale.gateway.server import serve
from safescale.probe import ask
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.runtime.auth.tokens import entry
from safescale.runtime.grpc.channels import connect, rpc_errors
from safescale.runtime.grpc.credentials import access_of
from safescale.runtime.grpc.tls import server_tls
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry

ROLES = ("viewer", "reviewer", "runner", "admin")


class Place:
    """A protected host in this process, the gateway before it, and the files of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.clients = Authority(folder, "clients")
        # Made for the name of a service, as in a cluster; localhost is what the tests call.
        self.server: Files = self.authority.issue("server", ("scoring.safescale.svc", "localhost"))
        # Both sides show the certificate of the settings, so that the CA of clients knows it, too.
        self.clients.file.write_bytes(self.clients.file.read_bytes() + self.authority.file.read_bytes())
        (folder / "tokens.yaml").write_text("\n".join(["tokens:", *(entry(r, f"secret-{r}", r) for r in ROLES)]))
        for role in ROLES:
            (folder / role).write_text(f"secret-{role}")
        self.url = ""
        self.address = ""

    def settings(self, **more) -> Settings:
        return Settings(
            data_dir=self.folder / "data",
            tls_certificate_file=self.server.certificate,
            tls_key_file=self.server.key,
            tls_ca_file=self.authority.file,
            tls_client_ca_file=self.clients.file,
            tokens_file=self.folder / "tokens.yaml",
            **more,
        )


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    found = Place(tmp_path)
    settings = found.settings()
    async with Host(settings, HostOptions()) as host:
        found.address = host.address.replace("127.0.0.1", "localhost")
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        config = gateway_config(found.settings(server=found.address, port=0), Telemetry())
        serving = asyncio.create_task(serve(config, stop, ready.set_result))
        found.url = f"https://{(await asyncio.wait_for(ready, 10)).replace('127.0.0.1', 'localhost')}"
        yield found
        stop.set()
        await serving


def client(place: Place, role: str = "") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer secret-{role}"} if role else {}
    trust = ssl.create_default_context(cafile=place.authority.file)
    return httpx.AsyncClient(base_url=place.url, verify=trust, headers=headers)


async def test_routes_ask_for_what_their_methods_ask_for(place: Place) -> None:
    async with client(place) as nobody:
        for path in ("/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"):
            assert (await nobody.get(path)).status_code == 200, path
        found = await nobody.get("/api/v1/runs")
        assert (found.status_code, found.headers["www-authenticate"]) == (401, 'Bearer realm="safescale"')
        assert found.json()["reason"] == "UNAUTHENTICATED"
        for garbage in (b"Bearer \xff", b"Bearer " + b"x" * 20_000, b"Bearer nobody", b"Basic dTpw"):
            found = await nobody.get("/api/v1/runs", headers={b"Authorization": garbage})
            assert (found.status_code, garbage.decode("latin-1") in found.text) == (401, False)
    async with client(place, "viewer") as viewer:
        assert (await viewer.get("/api/v1/runs")).status_code == 200
        found = await viewer.post("/api/v1/runs/none/cancel")
        assert (found.status_code, found.json()["reason"]) == (403, "PERMISSION_DENIED")
        assert "runner" in found.json()["detail"]
    async with client(place, "reviewer") as reviewer:
        path, settled = "/api/v1/reviews/none/resolution", {"reviewer": "dr", "letter": "A"}
        assert (await reviewer.post(path, json=settled)).status_code == 404
    async with client(place, "runner") as runner:
        assert (await runner.post("/api/v1/runs/none/cancel")).status_code == 404
        assert (await runner.post(path, json=settled)).status_code == 403


async def test_the_gateway_presents_no_token_of_its_own(place: Place) -> None:
    config = gateway_config(place.settings(server=place.address, token_file=place.folder / "admin"), Telemetry())
    assert config.access.token_file is None


async def test_a_renewed_certificate_of_the_gateway_is_used(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = place.url.removeprefix("https://").split(":")
    place.authority.issue("server", ("scoring.safescale.svc", "localhost"))
    expected = serial(place.server.certificate.read_bytes())
    async with asyncio.timeout(30):
        while True:
            shown = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
            if serial(shown.encode()) == expected:
                break
            await asyncio.sleep(0.1)


async def test_commands_and_clients_prove_who_they_are(place: Place) -> None:
    settings = place.settings(token_file=place.folder / "viewer")
    async with connect(place.address, access=access_of(settings)) as channel:
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(channel)
        assert not (await stub.ListRuns(pb.ListRunsRequest())).runs
        with pytest.raises(PermissionDeniedError, match="runner"), rpc_errors():
            await stub.CancelRun(pb.CancelRunRequest(run_id="none"))
    own = place.clients.issue("caller")
    given = {"ca_file": place.authority.file, "certificate_file": own.certificate, "key_file": own.key}
    async with AsyncScoringClient(place.address, ClientOptions(**given)) as scoring:
        with pytest.raises(UnauthenticatedError):
            await scoring.run_metrics("none")
    async with AsyncScoringClient(place.address, ClientOptions(**given, token_file=place.folder / "viewer")) as scoring:
        with pytest.raises(NotFoundError):
            await scoring.run_metrics("none")


def test_options_of_clients_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"key_file is not set; .* since certificate_file is set"):
        ClientOptions(ca_file=tmp_path, certificate_file=tmp_path)
    with pytest.raises(InvalidInputError, match="ca_file is not set"):
        ClientOptions(certificate_file=tmp_path, key_file=tmp_path)


@pytest.mark.parametrize("given", ["CA", "CERTIFICATE"])
async def test_the_probe_needs_no_token_and_no_name(place: Place, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    local, port = f"127.0.0.1:{place.address.split(':')[1]}", place.url.rsplit(":", 1)[1]
    assert "no safescale server answers" in await asyncio.to_thread(ask, local)
    monkeypatch.setenv("SAFESCALE_TLS_CERTIFICATE_FILE", str(place.server.certificate))
    monkeypatch.setenv("SAFESCALE_TLS_KEY_FILE", str(place.server.key))
    if given == "CA":
        monkeypatch.setenv("SAFESCALE_TLS_CA_FILE", str(place.authority.file))
    assert await asyncio.to_thread(ask, local) == ""
    assert await asyncio.to_thread(ask, f"https://127.0.0.1:{port}/readyz") == ""
    monkeypatch.setenv("SAFESCALE_TLS_CA_FILE", "none.pem")
    assert "SAFESCALE_TLS_CA_FILE none.pem cannot be read" in await asyncio.to_thread(ask, local)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"tls_certificate_file": "c.pem"}, "SAFESCALE_TLS_KEY_FILE is not set; .* SAFESCALE_TLS_CERTIFICATE_FILE is"),
        ({"tls_key_file": "k.pem"}, "SAFESCALE_TLS_CERTIFICATE_FILE is not set; .* SAFESCALE_TLS_KEY_FILE is"),
        ({"tls_client_ca_file": "ca.pem"}, "SAFESCALE_TLS_CERTIFICATE_FILE is not set; .*TLS_CLIENT_CA_FILE is"),
    ],
)
def test_half_of_the_settings_is_a_mistake(given: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        server_tls(Settings(**given))
