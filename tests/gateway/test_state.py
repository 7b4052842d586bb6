import pytest

from bff.gateway.state import Hosts


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        (b"shop.example", True),
        (b"SHOP.example:8000", True),
        (b"shop.example:", True),
        (b"other.example", False),
        (b"[::1]:80", True),
        (b"shop.example@evil", None),
        (b"shop.example/evil", None),
        (b"shop.example:80:80", None),
        (b"a b", None),
        (b"", None),
        (b"caf\xc3\xa9", None),
    ],
)
def test_a_host_is_accepted_by_name_whatever_its_port(host: bytes, accepted: bool | None) -> None:
    hosts = Hosts(["shop.example", "[::1]"])
    assert hosts.accepts(host) is accepted
    assert hosts.accepts(host) is accepted


def test_any_host_is_accepted_where_the_operator_says_so() -> None:
    hosts = Hosts(["*"])
    assert hosts.accepts(b"anything.example") is True
    assert hosts.accepts(b"any thing") is None


def test_no_more_hosts_are_remembered_than_there_is_room_for() -> None:
    hosts = Hosts(["*"])
    for number in range(3000):
        assert hosts.accepts(b"h%d" % number)
    assert len(hosts._known) == 1024
