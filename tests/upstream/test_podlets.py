import json
from typing import Any

import pytest

from bff.markup.check import Checker
from bff.model import Ask, Bounds, Failure, Forward, Grant, Outcome, Reason, Ref, Reply, Result, Timeout
from bff.page.flight import Wait
from bff.rules.redirects import ways
from bff.upstream import podlets
from bff.upstream.manifests import Asset, Manifest, assets, linked, manifest
from bff.upstream.podlets import Podlets
from bff.upstream.sources.podium import CONTENT, PodiumSource, dressed
from tests.build import UPSTREAM, Flown, Upstreams, World, fragment

SAID: dict[str, Any] = {"name": "basket", "version": "1.0.0", "content": "/", "fallback": "/fallback"}
TIMEOUT = Timeout(connect=0.25, first_byte=1.0, total=1.5)
BOUNDS = Bounds(TIMEOUT, max_body=9, limit=9, optional=True)


class Layout:
    """Podlets over upstreams that the test speaks for, at a time that the test says."""

    def __init__(self) -> None:
        self.time = 0.0
        self.upstreams = Upstreams()
        self.podlets = Podlets(self.upstreams, lambda: self.time)
        self.ended: list[Reply | Failure] = []

    def ask(self, target: str = "/manifest.json", headers: bytes = b"user-agent: bff\r\n") -> Any:
        return self.podlets(Ask(UPSTREAM, "GET", target, headers, BOUNDS), self.ended.append)

    def manifest(self, path: str = "/manifest.json", *, cache: str = "", **more: Any) -> None:
        body = json.dumps(SAID | more).encode()
        self.upstreams.to(path).reply(body, 200, b"application/json", **({"cache_control": cache} if cache else {}))

    def asked(self) -> list[str]:
        return [each.ask.target for each in self.upstreams.open]

    def body(self) -> bytes:
        reply = self.ended[-1]
        assert isinstance(reply, Reply)
        return reply.body


def test_the_manifest_leads_to_the_content_and_is_asked_for_once() -> None:
    layout = Layout()
    layout.ask("/manifest.json?sku=7", b"accept: text/html\r\nuser-agent: bff\r\naccept-language: nb\r\n")
    layout.ask()
    assert layout.asked() == ["/manifest.json"]
    layout.manifest(content="/content?x=1")
    assert layout.asked() == ["/fallback", "/content?x=1&sku=7", "/content?x=1"]
    sent = layout.upstreams.to("/content?x=1&sku=7").headers
    assert sent["user-agent"].startswith("@podium/client ")
    assert sent["podium-locale"] == "nb"
    assert sent["podium-public-pathname"] == "/podium-resource/basket"
    assert (sent["podium-requested-by"], sent["podium-debug"]) == ("bff", "false")
    assert "podium-locale" not in layout.upstreams.to("/content?x=1").headers
    layout.upstreams.to("/content?x=1").reply(b"one", podlet_version="1.0.0")
    assert layout.body() == b"one"
    layout.time = 1e9
    layout.ask()
    assert layout.asked()[-1:] == ["/content?x=1"]


def test_a_manifest_that_has_run_out_is_used_while_it_is_fetched_again() -> None:
    layout = Layout()
    layout.ask()
    layout.manifest(fallback="", cache="max-age=60")
    layout.upstreams.to("/").reply()
    layout.time = 60.0
    layout.ask()
    assert layout.asked() == ["/manifest.json", "/"]
    layout.upstreams.to("/manifest.json").fail()
    layout.upstreams.to("/").reply()
    layout.time += podlets.HOLD - 1
    layout.ask()
    assert layout.asked() == ["/"]
    layout.upstreams.to("/").reply()
    layout.time += 1
    layout.ask()
    assert layout.asked() == ["/manifest.json", "/"]


@pytest.mark.parametrize(("content", "asked"), [("/", []), ("/v2", ["/v2"])])
def test_another_version_means_another_manifest(content: str, asked: list[str]) -> None:
    layout = Layout()
    layout.ask()
    layout.manifest(fallback="")
    layout.upstreams.to("/").reply(b"old place", podlet_version="2.0.0")
    assert layout.asked() == ["/manifest.json"]
    assert not layout.ended
    layout.manifest(version="2.0.0", content=content, fallback="")
    assert layout.asked() == asked
    if asked:
        layout.upstreams.to("/v2").reply(b"new place", podlet_version="3.0.0")  # once is enough
    assert layout.body() == (b"new place" if asked else b"old place")
    layout.ask()
    assert layout.asked() == [content]


def test_a_new_version_whose_manifest_cannot_be_had_is_shown_all_the_same() -> None:
    layout = Layout()
    layout.ask()
    layout.manifest(fallback="")
    layout.upstreams.to("/").reply(b"new", podlet_version="2.0.0")
    layout.upstreams.to("/manifest.json").reply(b"", 500)
    assert layout.body() == b"new"


@pytest.mark.parametrize(
    ("body", "status", "reason", "why"),
    [
        (b"{", 200, Reason.REFUSED, "no JSON"),
        (b"[]", 200, Reason.REFUSED, "no name"),
        (b'{"name": "basket", "content": "http://evil.test/"}', 200, Reason.REFUSED, "content is not under"),
        (
            b'{"name": "basket", "content": "/", "fallback": "//evil.test"}',
            200,
            Reason.REFUSED,
            "fallback is not under",
        ),
        (b"", 404, Reason.STATUS, "answered 404"),
    ],
)
def test_no_manifest_no_content(body: bytes, status: int, reason: Reason, why: str) -> None:
    layout = Layout()
    layout.ask()
    layout.upstreams.to("/manifest.json").reply(body, status)
    (failure,) = layout.ended
    assert isinstance(failure, Failure)
    assert failure.reason is reason
    assert why in failure.detail


def test_manifest_and_content_are_asked_for_as_their_fragments_policy_says() -> None:
    layout, of = Layout(), fragment()
    ask = Ask(UPSTREAM, "GET", "/manifest.json", b"user-agent: bff\r\n", BOUNDS, fragment=of, policy=of.policy)
    layout.podlets(ask, layout.ended.append)
    layout.manifest()
    asked = {each.ask.target: each.ask.fragment for each in layout.upstreams.flown}
    assert asked == {"/manifest.json": of, "/": of, "/fallback": None}, "nobody waits for the fallback"


def test_a_podlet_that_does_not_answer_fails_as_any_other() -> None:
    layout = Layout()
    layout.ask()
    layout.upstreams.to("/manifest.json").fail(Reason.TIMEOUT, "timeout")
    layout.ask()
    layout.manifest(fallback="")
    layout.upstreams.to("/").fail(Reason.TORN, "reset")
    assert [each.reason for each in layout.ended if isinstance(each, Failure)] == [Reason.TIMEOUT, Reason.TORN]


def test_what_the_manifest_took_is_the_contents_no_more() -> None:
    layout = Layout()
    layout.ask()
    layout.time = 1.2
    layout.manifest(fallback="")
    content = layout.upstreams.to("/")
    assert content.ask.bounds.timeout.total == pytest.approx(0.3)
    content.reply()
    reply = layout.ended[0]
    assert isinstance(reply, Reply)
    assert reply.timing.total == pytest.approx(1.2)


def test_cancelling_ends_what_is_under_way_and_no_more() -> None:
    layout = Layout()
    early, late = layout.ask(), layout.ask()
    early.cancel()
    layout.manifest(fallback="")
    assert layout.asked() == ["/"]
    late.cancel()
    assert layout.asked() == []
    assert not layout.ended


def test_the_fallback_is_kept_beside_and_goes_with_its_registration() -> None:
    layout = Layout()
    assert layout.podlets.stand_in(UPSTREAM, "/manifest.json") is None
    layout.ask()
    layout.manifest()
    layout.upstreams.to("/fallback").reply(b"<p>basket</p>")
    found = layout.podlets.stand_in(UPSTREAM, "/manifest.json?sku=7")
    assert found is not None
    assert found[0] == b"<p>basket</p>"
    layout.upstreams.to("/").reply(podlet_version="2")
    layout.manifest(version="2")
    layout.upstreams.to("/fallback").fail()
    assert layout.podlets.stand_in(UPSTREAM, "/manifest.json") == found
    layout.ask()
    layout.upstreams.to("/").reply(podlet_version="3")
    layout.manifest(version="3", fallback="")
    assert layout.podlets.stand_in(UPSTREAM, "/manifest.json") is None


def test_podlets_remembered_are_bounded() -> None:
    layout = Layout()
    for number in range(podlets.KNOWN + 1):
        layout.ask(f"/{number}/manifest.json")
        layout.manifest(f"/{number}/manifest.json", fallback="")
    for each in layout.upstreams.open:
        each.reply()
    layout.ask("/1/manifest.json")
    layout.ask("/0/manifest.json")
    assert layout.asked() == ["/", "/0/manifest.json"]


# --- manifests --------------------------------------------------------------------------------------------------------

FULL = {
    "name": "basket",
    "version": "1",
    "content": "./",
    "css": [{"value": "/a.css", "type": "text/css", "media": "print", "scope": "all"}, {"type": "x"}, "x"],
    "js": [{"value": "https://cdn.test/a.js", "type": "module", "integrity": "sha384-x", "crossorigin": "anonymous"}],
    "proxy": [{"name": "api", "target": "/api"}, {"name": 1}, "x"],
}


def test_what_a_manifest_says() -> None:
    assert manifest(json.dumps(FULL).encode(), "/podlet/manifest.json", UPSTREAM) == Manifest(
        name="basket",
        version="1",
        content="/podlet/",
        assets=(
            Asset(kind="style", url="/a.css", media="print", scope="all"),
            Asset(
                kind="script", url="https://cdn.test/a.js", module=True, integrity="sha384-x", crossorigin="anonymous"
            ),
        ),
        proxies=(("api", "/api"),),
    )
    old = manifest(json.dumps(SAID | {"proxy": {"api": "/api"}, "css": "x"}).encode(), "/manifest.json", UPSTREAM)
    assert isinstance(old, Manifest)
    assert (old.proxies, old.assets) == ((("api", "/api"),), ())
    assert linked(old) == []


def test_links_name_assets_by_scope() -> None:
    link = '</a.js>; async; type=module; asset-type=script; scope="content", </f.css>; asset-type=style; scope=fallback'
    link += ", </x>; rel=preload, </b.css>; asset-type=style"
    assert [each.url for each in assets(link, ("content", "all"))] == ["/a.js", "/b.css"]
    assert [each.url for each in assets(link, ("fallback", "all"))] == ["/f.css", "/b.css"]


# --- the source -------------------------------------------------------------------------------------------------------

BACK = ways([("/podium-resource/basket/static/{rest:path}", ("/static/", Ref("param", "rest"), ""))], UPSTREAM)
BASKET = fragment(
    "shop/basket",
    path=("/manifest.json",),
    source="podium",
    grant=Grant(back=BACK),
    forward=Forward(headers=("accept-language",)),
    layer={"cache.fresh": "1s", "cache.stale_if_error": "0s"},
)


class Shop:
    """A resolver that knows podlets."""

    def __init__(self) -> None:
        self.world = World(fragments={"shop/basket": BASKET}, more={"podium": PodiumSource(Checker())})
        self.results: list[Result] = []

    def ask(self) -> "Result | Wait":
        call = self.world.planner.call(BASKET, BASKET.policy, {})
        assert call is not None
        return self.world.resolver.start(call, self.world.visit(), self.results.append)

    def to(self, target: str) -> Flown:
        return self.world.upstreams.to(target)

    def html(self) -> str:
        markup = self.results[-1].markup
        assert markup is not None
        return b"".join(part for part in markup.parts if isinstance(part, bytes)).decode()


def test_a_podlet_is_a_fragment_with_its_assets() -> None:
    shop = Shop()
    shop.ask()
    css, js = [{"value": "/static/a.css"}], [{"value": "https://cdn.test/a.js", "type": "module"}]
    shop.to("/manifest.json").reply(json.dumps(SAID | {"css": css, "js": js}).encode(), 200, b"application/json")
    assert shop.to("/").headers["podium-locale"] == "en"
    shop.to("/").reply(b"<p>2 items</p>", podlet_version="1.0.0")
    html = shop.html()
    assert html.startswith('<link rel="stylesheet" href="/podium-resource/basket/static/a.css"')
    assert "<p>2 items</p><script" in html
    assert ' type="module" async src="https://cdn.test/a.js"' in html
    assert shop.results[0].outcome is Outcome.FRESH


def test_its_own_fallback_stands_in_for_it() -> None:
    shop = Shop()
    shop.ask()
    shop.to("/manifest.json").reply(json.dumps(SAID).encode(), 200, b"application/json")
    shop.to("/fallback").reply(b"<p>Basket</p>", link="</static/f.css>; asset-type=style; scope=fallback")
    shop.to("/").fail()
    assert shop.results[0].outcome is Outcome.FALLBACK
    assert shop.html().endswith("<p>Basket</p>")
    assert shop.html().startswith('<link rel="stylesheet" href="/podium-resource/basket/static/f.css"')


def test_other_types_are_refused() -> None:
    shop = Shop()
    shop.ask()
    shop.to("/manifest.json").reply(json.dumps(SAID | {"fallback": ""}).encode(), 200, b"application/json")
    shop.to("/").reply(b"{}", 200, b"application/json")
    assert (shop.results[0].reason, shop.results[0].detail) == (
        Reason.REFUSED,
        "answered application/json where text/html is expected",
    )


def test_assets_are_checked_as_their_podlet_says() -> None:
    link = b"</a.css>; asset-type=style; media=print; integrity=sha256-x; crossorigin=anonymous"
    assert dressed(BASKET, {b"link": link}, b"<p>x</p>", CONTENT) == (
        b'<link rel="stylesheet" href="/a.css" media="print" integrity="sha256-x" crossorigin="anonymous"><p>x</p>'
    )
    assert dressed(BASKET, {}, b"<p>x</p>", CONTENT) == b"<p>x</p>"
