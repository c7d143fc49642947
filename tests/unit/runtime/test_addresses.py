import pytest

from safescale.core.errors import InvalidInputError
from safescale.runtime.addresses import address_of, bare, checked, host_of, is_address, is_loopback, reachable


@pytest.mark.parametrize(
    ("host", "plain", "address"),
    [
        ("::1", "::1", "[::1]:80"),
        ("[::1]", "::1", "[::1]:80"),
        ("::", "::", "[::]:80"),
        ("fe80::1%eth0", "fe80::1%eth0", "[fe80::1%eth0]:80"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:80"),
        ("grid.example", "grid.example", "grid.example:80"),
    ],
)
def test_an_address_has_brackets_where_it_is_ipv6(host: str, plain: str, address: str) -> None:
    assert (bare(host), address_of(host, 80)) == (plain, address)


@pytest.mark.parametrize(
    ("host", "there"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("[::]", "::1"), ("[::1]", "::1"), ("10.0.0.7", "10.0.0.7"), ("a", "a")],
)
def test_all_addresses_are_reached_on_loopback(host: str, there: str) -> None:
    assert reachable(host) == there


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost.", "app.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_what_this_machine_alone_reaches(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7"])
def test_what_others_reach(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("Grid.Example:8080", "grid.example"), ("grid.example.", "grid.example"), ("[::1]:80", "::1"), ("[::1]", "::1"),
        ("127.0.0.1:1", "127.0.0.1"), ("", ""), ("[", ""), ("::1", ""),
    ],
)  # fmt: skip
def test_the_host_of_an_authority(authority: str, host: str) -> None:
    assert host_of(authority) == host


def test_an_ipv6_address_without_brackets_is_refused() -> None:
    for address in ("::1:50051", "fe80::1:50051"):
        with pytest.raises(InvalidInputError, match=r"ambiguous; expected \[.*\]:50051 for IPv6"):
            checked(address)
    for address in ("[::1]:50051", "grid:50051", "127.0.0.1:1", "a:b:c"):
        assert checked(address) == address


@pytest.mark.parametrize(
    "address", ["127.0.0.1:99999", "grid:0", "grid:65536", "[::1]:70000", "grid:" + "9" * 30, "", " "]
)
def test_an_address_without_a_port_that_there_is_is_refused(address: str) -> None:
    with pytest.raises(InvalidInputError, match=r"expected (1 to 65535|host:port)"):
        checked(address)


def test_an_address_is_no_name() -> None:
    assert is_address("10.0.0.7")
    assert is_address("[::1]")
    assert not is_address("grid")
