"""Real servers with certificates made here: TLS, mutual TLS, renewal, tokens, balance, and the gateway before them."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs
from tests.support.certificates import Authority, Files, serial

from safescale.core.errors import (
    InvalidInputError,
    PeerRefusedError,
    PermissionDeniedError,
    ServiceUnavailableError,
    UnauthenticatedError,
)
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.runtime.auth.audit import Audit
from safescale.runtime.auth.guard import Guard
from safescale.runtime.auth.interceptor import CHECK
from safescale.runtime.auth.tokens import entry, read_tokens
from safescale.runtime.documents.sqlite import SqliteDocuments
from safescale.runtime.grpc.channels import connect, rpc_errors
from safescale.runtime.grpc.credentials import Access
from safescale.runtime.grpc.server import GrpcServer, Protection
from safescale.runtime.grpc.tls import ClientTls, Pair, ServerTls
from safescale.runtime.reloading import ReloadingValue
from safescale.runtime.telemetry import Telemetry

Stub = orchestration_pb2_grpc.OrchestrationServiceStub
NAME = "safescale.orchestration.v1.OrchestrationService"


class Orchestration(orchestration_pb2_grpc.OrchestrationServiceServicer):
    """Lists no run, cancels every run, and watches until it is told to end."""

    name = NAME

    def __init__(self, digest: str = "") -> None:
        self.digest = digest
        self.end = asyncio.Event()

    def register(self, server) -> None:
        orchestration_pb2_grpc.add_OrchestrationServiceServicer_to_server(self, server)

    async def ListRuns(self, request, context):
        await context.send_initial_metadata((("peer", context.peer()),))
        return pb.ListRunsResponse(runs=[pb.Run(run_id="run-1", digest=self.digest)])

    async def CancelRun(self, request, context):
        return pb.CancelRunResponse(run=pb.Run(run_id=request.run_id, state=pb.RUN_STATE_CANCELLED))

    async def WatchRun(self, request, context):
        yield pb.WatchRunResponse(state=pb.RUN_STATE_RUNNING)
        await self.end.wait()
        yield pb.WatchRunResponse(state=pb.RUN_STATE_COMPLETED)


@asynccontextmanager
async def running(
    protection: Protection, host: str = "127.0.0.1", service: Orchestration | None = None, port: int = 0
) -> AsyncIterator[str]:
    server = GrpcServer([service or Orchestration()], Telemetry(), protection)
    address = f"{host}:{await server.listen(host, port)}"
    await server.serving()
    try:
        yield address
    finally:
        await server.stop(0)


def tls_of(files: Files) -> ServerTls:
    return ServerTls(Pair(files.certificate, files.key), check_s=0)


def access_to(ca: Path, files: Files | None = None, token: Path | None = None, peer: str = "") -> Access:
    pair = None if files is None else Pair(files.certificate, files.key)
    return Access(ClientTls(ca, pair), token, peer, check_s=0)


async def list_runs(address: str, access: Access) -> list[str]:
    async with connect(address, access=access) as channel:
        with rpc_errors():
            found = await Stub(channel).ListRuns(pb.ListRunsRequest(), timeout=10)
    return [run.digest for run in found.runs]


async def cancel(address: str, access: Access) -> str:
    """Call something that is not asked again when it fails."""
    async with connect(address, access=access) as channel:
        with rpc_errors():
            found = await Stub(channel).CancelRun(pb.CancelRunRequest(run_id="run-1"), timeout=10)
    return found.run.run_id


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, Path]:
    """A file of each role's token; the tokens file is `tokens.yaml` beside them."""
    found, lines = {}, ["tokens:"]
    for role in ("viewer", "reviewer", "runner", "admin"):
        found[role] = tmp_path / f"{role}.token"
        found[role].write_text(f"secret-of-{role}\n")
        lines.append(entry(f"{role}-1", f"secret-of-{role}", role))
    (tmp_path / "tokens.yaml").write_text("\n".join(lines))
    return found


@pytest.fixture
def guard(tmp_path: Path, tokens: dict[str, Path]) -> Guard:
    file = tmp_path / "tokens.yaml"
    return Guard(ReloadingValue([file], lambda: read_tokens(file), check_s=0), None)


async def test_tls_is_trusted_by_its_ca_alone(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    async with running(Protection(tls_of(authority.issue("server")))) as address:
        assert await list_runs(address, access_to(authority.file)) == [""]
        with pytest.raises(ServiceUnavailableError):
            await cancel(address, access_to(other.file))
        with pytest.raises(ServiceUnavailableError):
            await cancel(address, Access())


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    async with running(Protection(tls_of(authority.issue("server", ("scoring.example",))))) as address:
        with pytest.raises(ServiceUnavailableError):
            await cancel(address, access_to(authority.file))


async def test_mutual_tls_demands_a_certificate_of_its_ca(authority: Authority, tmp_path: Path) -> None:
    clients = Authority(tmp_path, "clients")
    files = authority.issue("server")
    protection = Protection(ServerTls(Pair(files.certificate, files.key), clients.file, check_s=0))
    async with running(protection) as address:
        assert await list_runs(address, access_to(authority.file, clients.issue("client"))) == [""]
        with pytest.raises(ServiceUnavailableError):
            await cancel(address, access_to(authority.file))
        with pytest.raises(ServiceUnavailableError):
            await cancel(address, access_to(authority.file, authority.issue("stranger")))


async def test_a_renewed_certificate_is_used_without_a_restart(authority: Authority) -> None:
    files = authority.issue("server")
    async with running(Protection(tls_of(files))) as address:
        host, port = address.split(":")

        async def shown() -> int:
            return serial((await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))).encode())

        before = await shown()
        assert before == serial(files.certificate.read_bytes())
        # Half a pair is not used, and the one before stays.
        key = files.key.read_bytes()
        authority.issue("server")
        new_key = files.key.read_bytes()
        files.key.write_bytes(key)
        assert await shown() == before
        files.key.write_bytes(new_key)
        assert await shown() == serial(files.certificate.read_bytes()) != before
        assert await list_runs(address, access_to(authority.file)) == [""]


async def test_a_channel_takes_renewed_files_and_keeps_calls_under_way(authority: Authority, tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    own = authority.issue("server")
    client = old.issue("client")
    trusted = tmp_path / "trusted.pem"
    shutil.copy(old.file, trusted)
    service = Orchestration()
    protection = Protection(ServerTls(Pair(own.certificate, own.key), trusted, check_s=0))
    async with (
        running(protection, service=service) as address,
        connect(address, access=access_to(authority.file, client)) as channel,
    ):
        stub = Stub(channel)
        watching = stub.WatchRun(pb.WatchRunRequest(run_id="run-1"))
        assert (await watching.read()).state == pb.RUN_STATE_RUNNING
        shutil.copy(new.file, trusted)
        renewed = new.issue("client2")
        shutil.copy(renewed.certificate, client.certificate)
        shutil.copy(renewed.key, client.key)
        assert (await stub.ListRuns(pb.ListRunsRequest(), timeout=10)).runs
        service.end.set()
        assert (await watching.read()).state == pb.RUN_STATE_COMPLETED


async def test_a_mistake_in_the_files_is_named(authority: Authority, tmp_path: Path) -> None:
    first, second = authority.issue("first"), authority.issue("second")
    with pytest.raises(InvalidInputError, match=r"FILE .*first\.pem cannot be used with its key .*second\.key"):
        async with running(Protection(tls_of(Files(first.certificate, second.key)))):
            pass
    with pytest.raises(InvalidInputError, match=r"CERTIFICATE_FILE .*none\.pem cannot be read"):
        async with running(Protection(tls_of(Files(tmp_path / "none.pem", first.key)))):
            pass
    with pytest.raises(InvalidInputError, match=r"SAFESCALE_TLS_CA_FILE .*first\.key cannot be used"):
        connect("127.0.0.1:1", access=access_to(first.key))


async def test_tokens_decide_what_is_let_in(guard: Guard, tokens: dict[str, Path], tmp_path: Path) -> None:
    async with running(Protection(guard=guard)) as address:
        with pytest.raises(UnauthenticatedError, match="none was given"):
            await list_runs(address, Access())
        assert await list_runs(address, Access(token_file=tokens["viewer"])) == [""]
        async with connect(address, access=Access(token_file=tokens["viewer"])) as channel:
            with pytest.raises(PermissionDeniedError, match="CancelRun needs the role runner; viewer-1"), rpc_errors():
                await Stub(channel).CancelRun(pb.CancelRunRequest(run_id="run-1"))
        async with connect(address) as channel:
            with pytest.raises(UnauthenticatedError), rpc_errors():
                async for _ in Stub(channel).WatchRun(pb.WatchRunRequest(run_id="run-1")):
                    pass


async def test_what_is_refused_is_logged_without_the_token(guard: Guard, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("a-token-that-nobody-knows")
    async with running(Protection(guard=guard)) as address:
        with capture_logs() as lines, pytest.raises(UnauthenticatedError) as refused:
            await cancel(address, Access(token_file=tmp_path / "wrong"))
    (line,) = [line for line in lines if line["event"] == "call refused"]
    assert (line["code"], line["method"].endswith("CancelRun")) == ("UNAUTHENTICATED", True)
    assert "a-token-that-nobody-knows" not in f"{lines} {refused.value.message} {refused.value.details}"


async def test_health_and_reflection_need_no_token(guard: Guard) -> None:
    async with running(Protection(guard=guard)) as address, connect(address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=NAME))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for found in stub.ServerReflectionInfo(iter([asked])):
            assert NAME in {each.name for each in found.list_services_response.service}


async def test_a_token_file_and_the_tokens_file_are_read_again(
    guard: Guard, tokens: dict[str, Path], tmp_path: Path
) -> None:
    own = tmp_path / "own.token"
    own.write_text("first-secret")
    async with (
        running(Protection(guard=guard)) as address,
        connect(address, access=Access(token_file=own, check_s=0)) as channel,
    ):
        stub = Stub(channel)
        with pytest.raises(UnauthenticatedError, match="not known"), rpc_errors():
            await stub.ListRuns(pb.ListRunsRequest())
        (tmp_path / "tokens.yaml").write_text("tokens:\n" + entry("new", "second-secret", "viewer"))
        own.write_text("second-secret")
        assert (await stub.ListRuns(pb.ListRunsRequest())).runs
        # A file that cannot be used changes nothing.
        (tmp_path / "tokens.yaml").write_text("tokens: [{}]")
        assert (await stub.ListRuns(pb.ListRunsRequest())).runs


async def test_a_service_whose_token_is_refused_waits(guard: Guard, tokens: dict[str, Path]) -> None:
    async with running(Protection(guard=guard)) as address:
        with pytest.raises(PeerRefusedError, match=r"call of scoring is refused \(its SAFESCALE_TOKEN_FILE"):
            await cancel(address, Access(peer="scoring"))
        assert await list_runs(address, Access(token_file=tokens["runner"], peer="scoring")) == [""]


async def test_writes_are_recorded_with_who_did_them(guard: Guard, tokens: dict[str, Path], tmp_path: Path) -> None:
    documents = await SqliteDocuments.open(tmp_path / "records.db")
    try:
        async with (
            running(Protection(guard=guard, audit=Audit(documents))) as address,
            connect(address, access=Access(token_file=tokens["runner"])) as channel,
        ):
            stub, metadata = Stub(channel), (("x-request-id", "request-7"),)
            await stub.CancelRun(pb.CancelRunRequest(run_id="run-1"), metadata=metadata)
            await stub.ListRuns(pb.ListRunsRequest())
            # Not of these fakes: it fails, which is recorded, too.
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.CreateRun(pb.CreateRunRequest())
        found = [document.body async for document in documents.scan("audit")]
    finally:
        await documents.close()
    assert [(b["who"], b["action"], b["outcome"], b["object"]) for b in found] == [
        ("runner-1", "CancelRun", "asked", {"run_id": "run-1"}),
        ("runner-1", "CancelRun", "done", {"run_id": "run-1"}),
        ("runner-1", "CreateRun", "asked", {}),
        ("runner-1", "CreateRun", "INTERNAL", {}),
    ]
    assert [b["request_id"] for b in found[:2]] == ["request-7"] * 2


async def test_refused_writes_are_recorded_and_a_question_does_nothing(
    guard: Guard, tokens: dict[str, Path], tmp_path: Path
) -> None:
    documents = await SqliteDocuments.open(tmp_path / "records.db")
    request = pb.CancelRunRequest(run_id="run-1")
    try:
        async with running(Protection(guard=guard, audit=Audit(documents))) as address:
            for file in (None, tokens["viewer"]):
                async with connect(address, access=Access(token_file=file)) as channel:
                    for metadata in (None, ((CHECK, "write"),), ((CHECK, "read"),)):
                        with pytest.raises((UnauthenticatedError, PermissionDeniedError)), rpc_errors():
                            await Stub(channel).CancelRun(request, metadata=metadata)
            async with connect(address, access=Access(token_file=tokens["runner"])) as channel:
                asked = await Stub(channel).CancelRun(request, metadata=((CHECK, "write"),))
                assert asked == pb.CancelRunResponse()
        found = [document.body async for document in documents.scan("audit")]
    finally:
        await documents.close()
    assert [(b["who"], b["action"], b["outcome"], b["object"]) for b in found] == [
        ("unknown", "CancelRun", "UNAUTHENTICATED", {"run_id": "run-1"}),
        ("unknown", "CancelRun", "UNAUTHENTICATED", {"run_id": "run-1"}),
        ("viewer-1", "CancelRun", "PERMISSION_DENIED", {"run_id": "run-1"}),
        ("viewer-1", "CancelRun", "PERMISSION_DENIED", {"run_id": "run-1"}),
    ]


async def test_calls_spread_over_the_addresses_of_a_name() -> None:
    async with running(Protection(), "127.0.0.1", Orchestration("one")) as one:
        port = int(one.rsplit(":", 1)[1])
        async with (
            running(Protection(), "127.0.0.2", Orchestration("two"), port) as two,
            connect(f"ipv4:{one},{two}") as channel,
        ):
            stub = Stub(channel)
            seen: set[str] = set()
            # Both are connected to a moment after the first.
            async with asyncio.timeout(30):
                while len(seen) < 2:
                    seen.add((await stub.ListRuns(pb.ListRunsRequest(), wait_for_ready=True)).runs[0].digest)
                    await asyncio.sleep(0)
            in_turn = [(await stub.ListRuns(pb.ListRunsRequest())).runs[0].digest for _ in range(10)]
            assert (in_turn.count("one"), in_turn.count("two")) == (5, 5)


async def test_a_connection_that_grows_old_cuts_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safescale.runtime.grpc.server.CONNECTION_AGE_S", 1)
    service = Orchestration()
    async with running(Protection(), service=service) as address, connect(address) as channel:
        stub = Stub(channel)
        watching = stub.WatchRun(pb.WatchRunRequest(run_id="run-1"))
        assert (await watching.read()).state == pb.RUN_STATE_RUNNING
        peers = set()
        async with asyncio.timeout(60):
            while len(peers) < 3:
                call = stub.ListRuns(pb.ListRunsRequest(), wait_for_ready=True)
                await call
                peers.add(await ports(call))
                await asyncio.sleep(0.05)
        service.end.set()
        assert (await watching.read()).state == pb.RUN_STATE_COMPLETED


async def ports(call) -> str:
    metadata = await call.initial_metadata()
    return dict(metadata or ()).get("peer", "")
