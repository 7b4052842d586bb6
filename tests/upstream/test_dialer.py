"""Names and certificates: what is looked up, how often, and whom we trust."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bff.model import Reason, Upstream
from bff.upstream.dialer import FRESH, STALE, Dialer, Resolver
from tests.upstream.wire import OK, MovableClock, Peer, answering, ask, close, connecting, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[MovableClock, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": request.param}


class Zone:
    """A name server of our own, whose answers a test sets and whose time it moves."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.asked = 0
        self.now = 0.0
        self.gate = asyncio.Event()
        self.gate.set()

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        await self.gate.wait()
        if not self.addresses:
            raise OSError(f"{host} is unknown")
        return self.addresses

    def resolver(self) -> Resolver:
        return Resolver(self.look_up, lambda: self.now)


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_an_answer_is_used_while_fresh_and_while_asking_again() -> None:
    zone = Zone("192.0.2.1")
    resolver = zone.resolver()
    assert await resolver.addresses("a", 80) == ["192.0.2.1"]
    zone.now = FRESH
    assert await resolver.addresses("a", 80) == ["192.0.2.1"]
    assert zone.asked == 1
    zone.now = FRESH + 1
    zone.addresses = ["192.0.2.2"]
    zone.gate.clear()
    assert await resolver.addresses("a", 80) == ["192.0.2.1"]
    assert await resolver.addresses("a", 80) == ["192.0.2.1"]
    zone.gate.set()
    await turns()
    assert await resolver.addresses("a", 80) == ["192.0.2.2"]
    assert zone.asked == 2


async def test_while_names_fail_the_last_answer_serves_until_it_is_stale() -> None:
    zone = Zone("192.0.2.1")
    resolver = zone.resolver()
    await resolver.addresses("a", 80)
    zone.addresses = []
    zone.now = STALE
    assert await resolver.addresses("a", 80) == ["192.0.2.1"]
    await turns()
    zone.now = STALE + 1
    with pytest.raises(OSError, match="unknown"):
        await resolver.addresses("a", 80)
    zone.addresses = ["192.0.2.2"]
    assert await resolver.addresses("a", 80) == ["192.0.2.2"]


async def test_one_lookup_serves_all_who_wait_and_survives_those_who_go() -> None:
    zone = Zone("192.0.2.1")
    resolver = zone.resolver()
    zone.gate.clear()
    first, second = (asyncio.create_task(resolver.addresses("a", 80)) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    zone.gate.set()
    assert await second == ["192.0.2.1"]
    assert zone.asked == 1


async def test_a_failure_nobody_waits_for_is_not_an_error() -> None:
    zone = Zone()
    resolver = zone.resolver()
    zone.gate.clear()
    waiting = asyncio.create_task(resolver.addresses("a", 80))
    await turns()
    waiting.cancel()
    zone.gate.set()
    await turns()


async def test_closing_ends_lookups() -> None:
    zone = Zone()
    resolver = zone.resolver()
    zone.gate.clear()
    waiting = asyncio.create_task(resolver.addresses("a", 80))
    await turns()
    await resolver.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_address_that_worked_is_tried_first() -> None:
    zone = Zone("192.0.2.1", "192.0.2.2", "192.0.2.3")
    resolver = zone.resolver()
    await resolver.addresses("a", 80)
    resolver.worked("a", 80, "192.0.2.3")
    resolver.worked("a", 80, "192.0.2.9")
    resolver.worked("b", 80, "192.0.2.3")
    assert await resolver.addresses("a", 80) == ["192.0.2.3", "192.0.2.1", "192.0.2.2"]


async def test_addresses_are_tried_in_turn() -> None:
    zone = Zone("127.0.0.2", "127.0.0.3", "127.0.0.1")
    async with serving(answering(OK)) as fake:
        dialer = Dialer(asyncio.get_running_loop(), zone.look_up, local=True)
        upstream = Upstream(scheme="http", host="a", port=fake.upstream.port, authority="a")
        for _ in range(2):
            protocol = await dialer.dial(upstream, asyncio.Protocol, 5.0)
            assert isinstance(protocol, asyncio.Protocol)
        assert await dialer._resolver.addresses("a", fake.upstream.port) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        await dialer.aclose()
        for peer in fake.peers:
            peer.writer.close()


async def test_where_no_address_answers_the_last_failure_is_told() -> None:
    zone = Zone("127.0.0.2", "127.0.0.3")
    dialer = Dialer(asyncio.get_running_loop(), zone.look_up, local=True)
    with pytest.raises(ConnectionRefusedError):
        await dialer.dial(Upstream(scheme="http", host="a", port=1, authority="a"), asyncio.Protocol, 5.0)


async def test_a_name_with_no_address_at_all() -> None:
    async def nothing(host: str, port: int) -> list[str]:
        return []

    dialer = Dialer(asyncio.get_running_loop(), nothing)
    with pytest.raises(OSError, match="a has no address"):
        await dialer.dial(Upstream(scheme="http", host="a", port=1, authority="a"), asyncio.Protocol, 5.0)


async def test_a_name_that_comes_to_lead_elsewhere_is_refused_at_the_next_connection() -> None:
    """DNS rebinding: what is judged is the address that is connected to."""
    zone = Zone("127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")
    async with serving(answering(OK)) as fake:
        dialer = Dialer(asyncio.get_running_loop(), zone.look_up)
        upstream = Upstream(scheme="http", host="a.example", port=fake.upstream.port, authority="a.example")
        with pytest.raises(PermissionError, match=r"127\.0\.0\.1 \(this machine itself\).*254 \(link-local\)"):
            await dialer.dial(upstream, asyncio.Protocol, 5.0)
        await dialer.aclose()
        assert not fake.peers


async def test_of_several_addresses_those_that_may_be_are_tried() -> None:
    zone = Zone("169.254.169.254", "127.0.0.1")
    async with serving(answering(OK)) as fake:
        dialer = Dialer(asyncio.get_running_loop(), zone.look_up, local=True)
        upstream = Upstream(scheme="http", host="a.example", port=fake.upstream.port, authority="a.example")
        assert isinstance(await dialer.dial(upstream, asyncio.Protocol, 5.0), asyncio.Protocol)
        await dialer.aclose()
        for peer in fake.peers:
            peer.writer.close()


async def test_an_address_written_out_is_judged_too() -> None:
    dialer = Dialer(asyncio.get_running_loop())
    with pytest.raises(PermissionError, match="link-local"):
        await dialer.dial(
            Upstream(scheme="http", host="169.254.169.254", port=80, authority="x"), asyncio.Protocol, 1.0
        )


# --- TLS


def certificate(folder: Path, *names: x509.GeneralName) -> tuple[Path, ssl.SSLContext]:
    """A certificate that signs itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "upstream")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return file, context


async def test_a_trusted_upstream_is_spoken_to_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tls = certificate(tmp_path, x509.DNSName("localhost"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    asked_for: list[str | None] = []
    tls.sni_callback = lambda _, name, __: asked_for.append(name)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(answering(OK), name="localhost", tls=tls) as fake, connecting() as client:
        for _ in range(2):
            assert (await ask(client, fake.upstream).reply()).body == b"hi"
        assert asked_for == ["localhost"]
        chosen = fake.peers[0].writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert (len(fake.peers), chosen) == (1, "http/1.1")


async def test_an_address_may_be_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tls = certificate(tmp_path, x509.IPAddress(ip_address("127.0.0.1")))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with serving(answering(OK), tls=tls) as fake, connecting() as client:
        assert (await ask(client, fake.upstream).reply()).body == b"hi"


async def test_an_untrusted_upstream_is_not_spoken_to(tmp_path: Path) -> None:
    _, tls = certificate(tmp_path, x509.DNSName("localhost"))
    async with serving(answering(OK), name="localhost", tls=tls) as fake, connecting() as client:
        failure = await ask(client, fake.upstream).failure()
        assert failure.reason is Reason.CONNECT
        assert "CERTIFICATE_VERIFY_FAILED" in failure.detail


async def test_one_trusted_for_another_name_is_not_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tls = certificate(tmp_path, x509.DNSName("elsewhere"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with serving(answering(OK), name="localhost", tls=tls) as fake, connecting() as client:
        assert (await ask(client, fake.upstream).failure()).reason is Reason.CONNECT


TO_ITS_END = b"HTTP/1.1 200 OK\r\n\r\nwhole"


async def test_a_body_to_its_end_may_be_whole_under_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tls = certificate(tmp_path, x509.DNSName("localhost"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with (
        serving(answering(TO_ITS_END, after=close), name="localhost", tls=tls) as fake,
        connecting() as client,
    ):
        assert (await ask(client, fake.upstream).reply()).body == b"whole"


async def test_a_cut_is_no_end_under_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody on the way can end a connection, but not TLS on it (RFC 9112 §9.8)."""
    file, tls = certificate(tmp_path, x509.DNSName("localhost"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    async def cut(peer: Peer) -> None:
        peer.cut()

    async with (
        serving(answering(TO_ITS_END, after=cut), name="localhost", tls=tls) as fake,
        connecting() as client,
    ):
        assert (await ask(client, fake.upstream).failure()).reason is Reason.TORN


async def test_one_that_speaks_no_tls_is_connect() -> None:
    async with serving(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as fake, connecting() as client:
        upstream = Upstream(scheme="https", host="127.0.0.1", port=fake.upstream.port, authority="x")
        asked = ask(client, upstream)
        await until(lambda: fake.peers)
        await fake.peers[0].send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert (await asked.failure()).reason is Reason.CONNECT
