"""Server-side request forgery: whom the gateway asks is what a registration says, and never what anybody else does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bff.config.compile import parse_upstream
from bff.model import Failure, Reason, Upstream
from bff.rules.addresses import refused
from bff.rules.within import within
from bff.upstream.dialer import Dialer
from tests.attacks.ground import ground, registration
from tests.gateway.proxies import said
from tests.upstream.wire import OK, answering, ask, connecting, serving

pytestmark = pytest.mark.anyio

# --- what a registration may name -------------------------------------------------------------------------------------

DISGUISED = [
    "http://2130706433", "http://0x7f000001", "http://0x7f.0.0.1", "http://0177.0.0.1", "http://017700000001", "http://127.1",
    "http://127.0.1", "http://0", "http://0x0", "http://127.0.0.1.:80", "http://2852039166/latest", "http://0xa9fea9fe",
    "http://169.254.43518", "http://1.2.3.4.5",
]  # fmt: skip
FORBIDDEN = [
    "http://169.254.169.254", "http://169.254.169.254:80/latest/meta-data", "http://[::ffff:169.254.169.254]",
    "http://[::ffff:a9fe:a9fe]", "http://[64:ff9b::a9fe:a9fe]", "http://[2002:a9fe:a9fe::]", "http://[fe80::1]",
    "http://[fd00:ec2::254]", "http://100.100.100.200", "http://168.63.129.16", "http://0.0.0.0:8000", "http://[::]:8000",
    "http://255.255.255.255", "http://224.0.0.1",
]  # fmt: skip
MISREAD = [
    "http://user@127.0.0.1", "http://127.0.0.1@evil.example", "http://evil.example#@127.0.0.1", "http://evil.example\\@a",
    "http://a/..", "http://a/%2e%2e", "http://a//b", "http://a/?x", "http://①②⑦.0.0.1", "http://a%00.example", "http://a b",
    "http://[::1%25eth0]", "file:///etc/passwd", "gopher://a", "dict://a", "ftp://a", "//a", "http:a", "http://", "http://a:0",
]  # fmt: skip


@pytest.mark.parametrize("text", [*DISGUISED, *FORBIDDEN, *MISREAD])
def test_an_upstream_in_disguise_is_no_upstream(text: str) -> None:
    with pytest.raises(ValueError, match=";"):
        parse_upstream(text)


# --- where names lead -------------------------------------------------------------------------------------------------


class Rebound:
    """A name server that answers differently each time, as an attacker's does."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = [*answers]

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "fe80::1%lo"]
)
async def test_a_name_that_leads_to_this_machine_or_its_metadata_is_not_connected_to(address: str) -> None:
    async with serving(answering(OK)) as fake, connecting() as client:
        client.dialer = Dialer(client.loop, Rebound([address]).look_up)
        upstream = Upstream(scheme="http", host="a.example", port=fake.upstream.port, authority="a.example")
        failure = await ask(client, upstream).failure()
        assert isinstance(failure, Failure)
        assert failure.reason is Reason.CONNECT
        assert "PermissionError" in failure.detail
        assert not fake.peers


async def test_dns_rebinding_changes_nothing_the_judged_address_is_the_one_connected_to() -> None:
    """The second look-up, if there were one, would lead to loopback."""
    rebound = Rebound(["192.0.2.1"], ["127.0.0.1"])
    async with serving(answering(OK)) as fake, connecting() as client:
        connected: list[tuple[str, int]] = []

        class Loop:
            time = client.loop.time

            async def create_connection(self, make: Any, address: str, port: int, **_: Any) -> Any:
                connected.append((address, port))
                raise ConnectionRefusedError

        pretended: Any = Loop()
        client.dialer = Dialer(pretended, rebound.look_up)
        upstream = Upstream(scheme="http", host="a.example", port=fake.upstream.port, authority="a.example")
        await ask(client, upstream).failure()
        assert connected == [("192.0.2.1", fake.upstream.port)]
        assert not fake.peers


def test_private_networks_are_where_services_live() -> None:
    assert [refused(address, "service", local=False) for address in ("10.1.2.3", "172.18.0.4", "fd12::1")] == [""] * 3


async def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(OK)) as proxy, serving(answering(OK)) as fake, connecting() as client:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.upstream.authority}")
        assert (await ask(client, fake.upstream).reply()).status == 200
        assert (len(proxy.peers), len(fake.peers)) == (0, 1)


# --- what visitors write ----------------------------------------------------------------------------------------------

ESCAPES = [
    "..", ".", "../admin", "..%2fadmin", "%2e%2e", "%2e%2e%2fadmin", "..;/admin", "..;", ".%2e", "%252e%252e%252fadmin",
    "http://169.254.169.254/", "//169.254.169.254/", "\\..\\admin", "@169.254.169.254", "a?admin=1", "a#x", "a%00b", "a%0d%0aHost:%20x",
]  # fmt: skip


@pytest.mark.parametrize("value", ESCAPES)
async def test_a_parameter_stays_one_segment_under_its_upstream(tmp_path: Path, value: str) -> None:
    fragments = {"card": {"path": "/base/{n}/end", "params": {"n": {"type": "str"}}}}
    async with ground(tmp_path, registration("", fragments)) as here:
        for spelt in (value, quote(value, safe=""), quote(quote(value, safe=""), safe="")):
            await here.ask(f"/_bff/fragments/shop/card?n={spelt.replace('#', '%23').replace(' ', '%20')}")
        for asked in here.context.asked:
            path = asked.target
            assert path.startswith("/base/")
            assert path.endswith("/end")
            assert path.count("/") == 3
            assert not {"?", "#", "\\", ";"} & set(path)
            assert path.split("/")[2] not in ("", ".", "..", "%2e%2e", "%2E%2E")
            assert asked.headers["host"].startswith("127.0.0.1:")


@pytest.mark.parametrize(
    "path",
    [
        "/..%2fadmin",
        "/%2e%2e/admin",
        "/x/%2e%2e%2f%2e%2e/admin",
        "/..;/admin",
        "/%252e%252e/admin",
        "/..%5cadmin",
        "/x/..",
        "/%00",
    ],
)
async def test_a_proxied_path_cannot_leave_its_upstreams_base(tmp_path: Path, path: str) -> None:
    proxy = [{"path": "/api/{rest:path}", "to": "/base/{rest}"}]
    async with ground(tmp_path, registration(proxy=proxy)) as here:
        answer = await here.ask(f"/api{path}")
        assert answer.status in (400, 404)
        assert here.context.asked == []


async def test_an_absolute_target_names_a_host_and_leads_nowhere(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(proxy=[{"path": "/api/{rest:path}", "to": "/base/{rest}"}])) as here:
        await here.raw(b"GET http://169.254.169.254/api/x HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        (asked,) = here.context.asked
        assert asked.target == "/base/x"
        assert asked.headers["host"].startswith("127.0.0.1:")


# --- what contexts write ----------------------------------------------------------------------------------------------

UPSTREAM = Upstream(scheme="http", host="10.0.0.5", port=8080, authority="10.0.0.5:8080", base="/v1")
OUTSIDE = [
    "http://169.254.169.254/", "//169.254.169.254/v1/", "http://10.0.0.5:8081/v1/x", "https://10.0.0.5:8080/v1/x",
    "http://10.0.0.5/v1/x", "http://u@10.0.0.5:8080/v1/x", "http://10.0.0.5:8080@evil/v1/x", "/v2/x", "../x", "/v1/../x",
    "/v1/%2e%2e/x", "/v1", "/v1evil/x", "http://10.0.0.5:8080", "file:///etc/passwd", "http:\\\\evil", "/v1/x\r\nHost: evil",
    "http://[", "http://10.0.0.5:8080.evil/v1/x", "http://10.0.0.5:x/v1/", "/\\evil/v1/", " /v1/x", "",
]  # fmt: skip


@pytest.mark.parametrize("stated", OUTSIDE)
def test_a_url_in_an_answer_that_leaves_its_upstream_is_not_followed(stated: str) -> None:
    """The one rule of tasks, podlets, web fragments and results."""
    assert within(stated, "/v1/asked", UPSTREAM) is None


async def test_a_redirect_of_a_contexts_is_not_followed(tmp_path: Path) -> None:
    async with serving(answering(OK)) as internal, ground(tmp_path) as here:
        here.context.answers["/card"] = said(b"", "302 Found", location=f"http://{internal.upstream.authority}/")
        page = await here.page()
        assert 'state="omitted"' in page
        assert not internal.peers
        assert len(here.context.asked) == 1


@pytest.mark.parametrize("stated", ["http://169.254.169.254/latest", "//evil/x", "/%2e%2e/x", "file:///etc/passwd"])
async def test_a_task_elsewhere_is_no_task(tmp_path: Path, stated: str) -> None:
    async with serving(answering(OK)) as internal, ground(tmp_path) as here:
        for place in (stated, f"http://{internal.upstream.authority}/job"):
            here.context.answers["/card"] = said(b"", "202 Accepted", location=place)
            answer = await here.ask("/_bff/fragments/shop/card")
            assert answer.status == 502
            assert "location" not in answer.headers
        assert not internal.peers


async def test_the_result_of_a_task_is_fetched_under_its_upstream_only(tmp_path: Path) -> None:
    async with serving(answering(OK)) as internal, ground(tmp_path) as here:
        here.context.answers["/card"] = said(b"", "202 Accepted", location="/job")
        place = (await here.ask("/_bff/fragments/shop/card")).headers["location"]
        for result in (f"http://{internal.upstream.authority}/x", "http://169.254.169.254/", "//evil/x"):
            done = json.dumps({"state": "Succeeded", "result": result}).encode()
            here.context.answers["/job"] = said(done, content_type="application/json")
            assert (await here.ask(place + "/result")).status == 502
        assert not internal.peers


async def test_the_next_page_of_a_list_is_an_address_of_the_gateways(tmp_path: Path) -> None:
    fragments = {
        "card": {
            "path": "/card", "source": "json", "paginate": "drf", "params": {"page": {"type": "int", "default": 1}},
            "query": {"page": "{page}"},
        }
    }  # fmt: skip
    slot = '<bff-fragment name="shop/card" load="none"></bff-fragment>'
    async with ground(tmp_path, registration(slot, fragments)) as here:
        for stated in ("http://169.254.169.254/?page=2", "file:///etc/passwd?page=2", "//evil/?page=2&x=1"):
            listed = json.dumps({"next": stated, "results": []}).encode()
            here.context.answers["/card"] = said(listed, content_type="application/json")
            answer = await here.ask("/_bff/fragments/shop/card", headers={"Accept": "application/json"})
            assert json.loads(answer.body)["next"] in (None, "/_bff/fragments/shop/card?page=2")
            assert b"169.254" not in answer.body
            assert b"evil" not in answer.body


async def test_a_podlet_leads_nowhere_but_under_its_upstream(tmp_path: Path) -> None:
    fragments = {"card": {"path": "/manifest.json", "source": "podium"}}
    async with serving(answering(OK)) as internal, ground(tmp_path, registration(fragments=fragments)) as here:
        for content in (f"http://{internal.upstream.authority}/", "//169.254.169.254/", "/x/%2e%2e/y"):
            told = json.dumps({"name": "card", "version": "1", "content": content, "fallback": ""}).encode()
            here.context.answers["/manifest.json"] = said(told, content_type="application/json")
            await here.page()
        assert not internal.peers
        assert {each.target for each in here.context.asked} == {"/manifest.json"}
