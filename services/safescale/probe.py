"""Asks a server whether it is ready: `python -m safescale.probe [host:port | URL]`, exit code 0 when it is.

For health checks of containers, which run every few seconds: it imports as little as it can. TLS is used where the
settings of the process say so (SAFESCALE_TLS_CA_FILE, or the server's own SAFESCALE_TLS_CERTIFICATE_FILE). It needs no
token.
"""

import os
import re
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safescale.runtime.addresses import LOOPBACK, address_of, reachable

DEADLINE_S = 5.0
DEFAULT_PORT = "50051"
LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")


def ask(target: str) -> str:
    """Why a server is not ready, a sentence; empty when it is. A target is host:port of gRPC or a URL for HTTP."""
    try:
        if target.startswith(("http://", "https://")):
            return _ask_http(target)
        return _ask_grpc(target)
    except _UnusableFileError as error:
        return str(error)


class _UnusableFileError(Exception):
    pass


def _file(name: str) -> str | None:
    """Return the file that a setting names; None when it names none."""
    return os.environ.get(f"SAFESCALE_TLS_{name}_FILE") or None


def _content(name: str) -> bytes | None:
    path = _file(name)
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise _UnusableFileError(f"SAFESCALE_TLS_{name}_FILE {path} cannot be read: {error.strerror}") from error


def _ask_http(url: str) -> str:
    try:
        context = _http_context(url) if url.startswith("https://") else None
        with urllib.request.urlopen(url, timeout=DEADLINE_S, context=context) as response:  # noqa: S310
            return "" if response.status == 200 else f"{url} answered {response.status}"
    except (OSError, ValueError) as error:
        return f"{url} is not ready: {error}"


def _http_context(url: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=_file("CA") or _file("CERTIFICATE"))
    if urlsplit(url).hostname in LOCAL:
        # The server of this machine: its certificate names its service, hardly ever the loopback address.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _ask_grpc(address: str) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with _channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True
            )
        except grpc.RpcError:
            return f"no safescale server answers at {address}"
    ready = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if ready else f"the safescale server at {address} is not ready"


def _channel(address: str) -> Any:
    import grpc

    options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]

    ca, certificate, key = _content("CA"), _content("CERTIFICATE"), _content("KEY")
    if ca is None and certificate is None:
        return grpc.insecure_channel(address, options=options)
    if certificate and address.rsplit(":", 1)[0] in LOCAL:
        options.append(("grpc.ssl_target_name_override", _name_in(certificate)))
    pair = (key, certificate) if key and certificate else (None, None)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca or certificate, *pair), options=options)


def _name_in(certificate: bytes) -> str:
    """Return a name in the server's own certificate, which hardly ever names the loopback address."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise _UnusableFileError(
            f"SAFESCALE_TLS_CERTIFICATE_FILE {_file('CERTIFICATE')} cannot be used; expected a certificate in PEM"
        ) from error
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "localhost"
    texts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    # A wildcard is a name for no server; any label in its place is.
    return re.sub(r"^\*", "any", texts[0]) if texts else "localhost"


def own_address() -> str:
    """Where this machine reaches the server that the settings describe."""
    port = os.environ.get("SAFESCALE_PORT") or DEFAULT_PORT
    return address_of(reachable(os.environ.get("SAFESCALE_HOST") or LOOPBACK), int(port) if port.isdecimal() else 0)


def main() -> None:
    """Ask the named server, or that of SAFESCALE_HOST and SAFESCALE_PORT on this machine."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    reason = ask(sys.argv[1] if len(sys.argv) > 1 else own_address())
    if reason:
        print(reason, file=sys.stderr)
    sys.exit(1 if reason else 0)


if __name__ == "__main__":
    main()
