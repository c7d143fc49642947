"""Hosts and addresses as people write them: names, IPv4, and IPv6 with or without brackets."""

import ipaddress

from safescale.core.errors import InvalidInputError

LOOPBACK = "127.0.0.1"
LOOPBACK_V6 = "::1"
NAMES = ("localhost",)
MAX_PORT = 65535


def bare(host: str) -> str:
    """Return a host without brackets, as sockets take it."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def address_of(host: str, port: int) -> str:
    """Return host:port, an IPv6 address in brackets."""
    plain = bare(host)
    return f"[{plain}]:{port}" if ":" in plain else f"{plain}:{port}"


def reachable(host: str) -> str:
    """Return where a process on this machine reaches what listens on a host: loopback, where that is all addresses."""
    address = _parsed(host)
    if address is None or not address.is_unspecified:
        return bare(host)
    return LOOPBACK if address.version == 4 else LOOPBACK_V6


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on a host."""
    address = _parsed(host)
    if address is None:
        name = host.lower().removesuffix(".")
        return name in NAMES or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_address(host: str) -> bool:
    """Return whether a host is an IP address and no name."""
    return _parsed(host) is not None


def host_of(authority: str) -> str:
    """Return the host of host:port or host alone, in lower case, without brackets and without the dot of the root."""
    text = authority.strip()
    if text.startswith("["):
        return bare(text[: text.find("]") + 1]).lower()
    return text.partition(":")[0].lower().removesuffix(".")


def checked(address: str) -> str:
    """Return host:port as it is.

    Raises:
        InvalidInputError: it is empty, has a port that is none, or is IPv6 without brackets: nobody can tell its port.

    """
    if not address.strip():
        raise InvalidInputError("the address is empty; expected host:port")
    port = address.rpartition(":")[2]
    # gRPC takes the last 16 bits of a larger number: another port, and perhaps another server.
    one = address.count(":") == 1 or address.startswith("[")
    if one and port.isdecimal() and not 1 <= int(port[:9]) <= MAX_PORT:
        raise InvalidInputError(f"the address {address[:200]!r} has the port {port[:20]}; expected 1 to {MAX_PORT}")
    if address.count(":") > 1 and not address.startswith("[") and _parsed(address.rpartition(":")[0]) is not None:
        host, _, port = address.rpartition(":")
        raise InvalidInputError(f"the address {address!r} is ambiguous; expected [{host}]:{port} for IPv6")
    return address


def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(bare(host))
    except ValueError:
        return None
