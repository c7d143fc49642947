import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from safescale.probe import ask, own_address


@pytest.fixture
async def server():
    running = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    yield servicer, f"127.0.0.1:{port}"
    await running.stop(0)


async def run(*arguments: str) -> tuple[int, str]:
    import asyncio

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "safescale.probe", *arguments, stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def test_a_server_is_ready_when_it_says_so(server) -> None:
    servicer, address = server
    assert await run(address) == (0, "")
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    code, said = await run(address)
    assert (code, "is not ready" in said) == (1, True)


def test_what_does_not_answer_is_not_ready() -> None:
    assert "no safescale server answers" in ask("127.0.0.1:1")
    assert "is not ready" in ask("http://127.0.0.1:1/readyz")
    assert "is not ready" in ask("http://")


def test_a_certificate_that_is_none_is_named(monkeypatch, tmp_path) -> None:
    file = tmp_path / "server.pem"
    file.write_text("no certificate")
    monkeypatch.setenv("SAFESCALE_TLS_CERTIFICATE_FILE", str(file))
    assert ask("127.0.0.1:1") == (
        f"SAFESCALE_TLS_CERTIFICATE_FILE {file} cannot be used; expected a certificate in PEM"
    )
    assert "is not ready" in ask("https://127.0.0.1:1/readyz")


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        (None, None, "127.0.0.1:50051"), ("0.0.0.0", "7", "127.0.0.1:7"), ("::", None, "[::1]:50051"),
        ("[::1]", "7", "[::1]:7"), ("localhost", None, "localhost:50051"),
    ],
)  # fmt: skip
def test_it_asks_where_its_own_server_listens(monkeypatch, host, port, address) -> None:
    for name, value in (("SAFESCALE_HOST", host), ("SAFESCALE_PORT", port)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert own_address() == address
