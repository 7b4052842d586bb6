"""Which addresses a context may be reached at."""

from __future__ import annotations

import pytest

from bff.rules.addresses import disguised, literal, never, refused

NEVER = {
    "169.254.169.254": "link-local",
    "::ffff:169.254.169.254": "link-local",
    "::a9fe:a9fe": "link-local",
    "64:ff9b::a9fe:a9fe": "link-local",
    "2002:a9fe:a9fe::1": "link-local",
    "fe80::1": "link-local",
    "100.100.100.200": "a cloud's metadata service",
    "168.63.129.16": "a cloud's metadata service",
    "fd00:ec2::254": "a cloud's metadata service",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "::ffff:0.0.0.0": "unspecified",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
}


@pytest.mark.parametrize("address", NEVER)
def test_no_context_is_there_whoever_says_so(address: str) -> None:
    found = literal(address)
    assert found is not None
    assert never(found) == NEVER[address]
    assert refused(address, address, local=True) == NEVER[address]


@pytest.mark.parametrize("address", ["10.0.0.7", "172.17.0.2", "192.168.1.9", "8.8.8.8", "fd00::7", "2001:db8::1"])
def test_services_live_in_private_networks(address: str) -> None:
    assert refused(address, "service", local=False) == ""


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::7f00:1", "64:ff9b::7f00:1"]
)
def test_this_machine_is_reached_only_by_saying_so(address: str) -> None:
    assert refused(address, "service.example", local=False) == "this machine itself"
    assert refused(address, "localhost.example", local=False) == "this machine itself"
    for host in ("localhost", "LOCALHOST.", "demo.localhost", "127.0.0.1", "::1"):
        assert refused(address, host, local=False) == ""
    assert refused(address, "service.example", local=True) == ""


def test_what_a_resolver_says_must_be_an_address() -> None:
    assert refused("fe80::1%eth0", "a", local=True) == "link-local"
    assert refused("elsewhere", "a", local=True) == "no address"


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "a.0x", "1.2.3.4.5"]
)
def test_numbers_that_resolvers_read_as_addresses_are_no_names(host: str) -> None:
    assert disguised(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "a", "4chan.org", "1.2.3.4.example", "x1", "0x7f.example"])
def test_names_and_addresses_are_what_they_look_like(host: str) -> None:
    assert not disguised(host)
