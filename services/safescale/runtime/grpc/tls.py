"""TLS of our own servers and clients, from files that may be renewed while the process runs."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from safescale.core.errors import InvalidInputError
from safescale.runtime.reloading import CHECK_S, ReloadingValue
from safescale.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, PEM. `names` are those of the settings, for messages."""

    certificate: Path
    key: Path
    names: tuple[str, str] = ("SAFESCALE_TLS_CERTIFICATE_FILE", "SAFESCALE_TLS_KEY_FILE")

    def read(self) -> tuple[bytes, bytes]:
        """Key and certificate chain; that they fit each other is checked.

        Raises:
            InvalidInputError: one cannot be read, or they do not fit.

        """
        contents = (_read(self.key, self.names[1]), _read(self.certificate, self.names[0]))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password=_no_password)
        except OSError as error:
            raise InvalidInputError(
                f"{self.names[0]} {self.certificate} cannot be used with its key {self.key}; "
                "expected a certificate and its key in PEM, the key without a password"
            ) from error
        return contents


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Certificate of a server, and the CA of the client certificates that it demands; none demanded without."""

    pair: Pair
    client_ca: Path | None = None
    check_s: float = CHECK_S


@dataclass(frozen=True, slots=True)
class ClientTls:
    """CA of the servers that are called, and the client certificate that is shown to them."""

    ca: Path
    pair: Pair | None = None
    ca_name: str = "SAFESCALE_TLS_CA_FILE"


def pair_of(certificate: Path | None, key: Path | None, names: tuple[str, str] | None = None) -> Pair | None:
    """Return the pair, None when neither is given.

    Raises:
        InvalidInputError: half a pair.

    """
    names = names or ("SAFESCALE_TLS_CERTIFICATE_FILE", "SAFESCALE_TLS_KEY_FILE")
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        there, missing = names if key is None else names[::-1]
        raise InvalidInputError(f"{missing} is not set; expected a file, since {there} is set")
    return Pair(certificate, key, names)


def server_tls(settings: Settings) -> ServerTls | None:
    """TLS of the server that the settings describe; None for a plain one.

    Raises:
        InvalidInputError: settings that do not go together.

    """
    pair = pair_of(settings.tls_certificate_file, settings.tls_key_file)
    if pair is None:
        if settings.tls_client_ca_file:
            raise InvalidInputError(
                "SAFESCALE_TLS_CERTIFICATE_FILE is not set; expected a file, since SAFESCALE_TLS_CLIENT_CA_FILE is set"
            )
        return None
    return ServerTls(pair, settings.tls_client_ca_file)


def client_tls(settings: Settings) -> ClientTls | None:
    """TLS of calls to our services that the settings describe; None for plain ones.

    Raises:
        InvalidInputError: settings that do not go together.

    """
    pair = pair_of(settings.tls_certificate_file, settings.tls_key_file)
    return None if settings.tls_ca_file is None else ClientTls(settings.tls_ca_file, pair)


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Credentials of a gRPC server. Each new connection gets the certificates that the files hold by then.

    Raises:
        InvalidInputError: a file that cannot be used.

    """

    def load() -> grpc.ServerCertificateConfiguration:
        ca = None if tls.client_ca is None else read_ca(tls.client_ca, "SAFESCALE_TLS_CLIENT_CA_FILE")
        return grpc.ssl_server_certificate_configuration([tls.pair.read()], ca)

    files = [tls.pair.certificate, tls.pair.key, *([tls.client_ca] if tls.client_ca else [])]
    reloading = ReloadingValue(files, load, tls.check_s)
    return grpc.dynamic_ssl_server_credentials(reloading.get(), reloading.get, tls.client_ca is not None)


def channel_credentials(tls: ClientTls, check_s: float = CHECK_S) -> ReloadingValue[grpc.ChannelCredentials]:
    """Credentials of a channel, made anew when the files change.

    Raises:
        InvalidInputError: a file that cannot be used.

    """

    def load() -> grpc.ChannelCredentials:
        key, chain = (None, None) if tls.pair is None else tls.pair.read()
        return grpc.ssl_channel_credentials(read_ca(tls.ca, tls.ca_name), key, chain)

    files = [tls.ca, *([tls.pair.certificate, tls.pair.key] if tls.pair else [])]
    return ReloadingValue(files, load, check_s)


def https_context(pair: Pair, check_s: float = CHECK_S) -> tuple[ssl.SSLContext, Callable[[], object]]:
    """Context of an HTTPS server, and what is called now and then so that new connections get a renewed certificate.

    Raises:
        InvalidInputError: a file that cannot be used.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def load() -> None:
        pair.read()
        context.load_cert_chain(pair.certificate, pair.key, password=_no_password)

    return context, ReloadingValue([pair.certificate, pair.key], load, check_s).get


def read_ca(path: Path, name: str) -> bytes:
    """CA certificates in PEM; `name` is that of the setting.

    Raises:
        InvalidInputError: the file cannot be read or holds no certificate.

    """
    content = _read(path, name)
    try:
        # PEM takes any text around it, so bytes that are none are no reason to refuse.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode(errors="replace"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInputError(f"{name} {path} cannot be used; expected CA certificates in PEM") from error
    return content


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{name} {path} cannot be read: {error.strerror}; expected a file in PEM") from error


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    return ""
