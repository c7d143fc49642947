"""Asks a server whether it is ready: `python -m safescale.probe [host:port | URL]`, exit code 0 when it is.

For health checks of containers, which run every few seconds: it imports as little as it can.
"""

import os
import sys
import urllib.request

DEADLINE_S = 5.0
DEFAULT_PORT = "50051"


def ask(target: str) -> str:
    """Why a server is not ready, a sentence; empty when it is. A target is host:port of gRPC or a URL for HTTP."""
    if target.startswith(("http://", "https://")):
        return _ask_http(target)
    return _ask_grpc(target)


def _ask_http(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:  # noqa: S310
            return "" if response.status == 200 else f"{url} answered {response.status}"
    except (OSError, ValueError) as error:
        return f"{url} is not ready: {error}"


def _ask_grpc(address: str) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True
            )
        except grpc.RpcError:
            return f"no safescale server answers at {address}"
    ready = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if ready else f"the safescale server at {address} is not ready"


def main() -> None:
    """Ask the named server, or that of SAFESCALE_PORT on this machine."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    port = os.environ.get("SAFESCALE_PORT") or DEFAULT_PORT
    reason = ask(sys.argv[1] if len(sys.argv) > 1 else f"127.0.0.1:{port}")
    if reason:
        print(reason, file=sys.stderr)
    sys.exit(1 if reason else 0)


if __name__ == "__main__":
    main()
