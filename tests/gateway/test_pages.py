import asyncio
import gc
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from bff.config.compile import compile_param
from bff.gateway.identity import ANONYMOUS, Identity
from bff.gateway.pages import Pages
from bff.gateway.request import Locales
from bff.model import Grant, Page, Reason
from bff.page.plan import Csp
from tests.build import World, document, fragment, page, planner, slot, text_param

pytestmark = pytest.mark.anyio

MAIN = fragment("shop/main", layer={"cache.fresh": "10s"}, grant=Grant(cookies=("csrftoken",)))
SIDE = fragment("shop/side", layer={"cache.fresh": "10s"})
BOTH = {"shop/main": MAIN, "shop/side": SIDE}
PRIMARY = document(slot(1, "shop/main", kind="primary"), slot(2, "shop/side", placeholder=(b"wait",)))
ERROR = document(b"<h1>Sorry</h1>", slot(1, "shop/side"))


class Site:
    """Pages in process, asked like an ASGI server asks."""

    def __init__(self, *pages: Page, identity: Identity = ANONYMOUS, dev: bool = False, logs: bool = True) -> None:
        self.world = World(*pages, fragments=BOTH)
        self.pages = Pages(
            planner=self.world.planner,
            resolver=self.world.resolver,
            timer=self.world.timer,
            telemetry=self.world.seen,
            clock=self.world.loop.time,
            identify=lambda fields, client: identity,
            trusted=lambda client: client == "10.0.0.1",
            locales=Locales([]),
            logs_slots=logs,
            dev=dev,
        )

    def scope(self, path: str = "/p", method: str = "GET", query: str = "", **headers: str) -> dict[str, Any]:
        return {
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()],
            "client": ("127.0.0.1", 1),
        }

    def ask(self, path: str = "/p", method: str = "GET", query: str = "", **headers: str) -> "Asked":
        return Asked(self, self.scope(path, method, query, **headers))


class Asked:
    """One request under way: what has been sent so far, and the task that sends it."""

    def __init__(self, site: Site, scope: dict[str, Any]) -> None:
        self.sent: list[Any] = []
        self.gone: list[Callable[[], None]] = []
        self.now = site.pages.now(scope)
        self.task: asyncio.Task[None] | None = None
        if self.now is None:
            self.task = asyncio.ensure_future(site.pages.stream(scope, self._send, self.gone.append))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def settle(self) -> "Asked":
        """Let everything run that can."""
        for _ in range(10):
            await asyncio.sleep(0)
        return self

    @property
    def done(self) -> bool:
        return self.task is None or self.task.done()

    @property
    def status(self) -> int:
        return int(self.now[0] if self.now is not None else self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.now[1] if self.now is not None else self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return self.now[2] if self.now is not None else b"".join(m["body"] for m in self.sent[1:])


async def test_a_page_without_primary_is_flushed_before_any_answer() -> None:
    site = Site(page(document(b"<main>", slot(1, "shop/side", placeholder=(b"wait",)), b"</main>")))
    asked = await site.ask().settle()
    assert asked.status == 200
    assert b"wait" in asked.body
    assert b"content-length" not in asked.headers
    site.world.upstreams.to("/side").reply(b"<p>side</p>")
    await asked.settle()
    assert asked.done
    assert b"<p>side</p></bff-fragment></template><wbr hidden>" in asked.body
    assert asked.body.endswith(b"</noscript></body></html>")
    assert asked.sent[-1]["more_body"] is False


async def test_a_page_wholly_in_the_store_is_answered_at_once_with_its_length() -> None:
    site = Site(page(PRIMARY))
    first = site.ask()
    site.world.upstreams.to("/main").reply(b"<p>main</p>")
    site.world.upstreams.to("/side").reply(b"<p>side</p>")
    await first.settle()
    again = site.ask()
    assert again.now is not None
    assert int(again.headers[b"content-length"]) == len(again.body)
    assert b'age="0"' in again.body
    assert [report.status for report in site.world.seen.pages] == [200, 200]


async def test_the_first_byte_waits_for_the_primary() -> None:
    site = Site(page(PRIMARY))
    asked = await site.ask().settle()
    site.world.upstreams.to("/side").reply()
    await asked.settle()
    assert asked.sent == []
    site.world.upstreams.to("/main").reply(b"<title>Mine</title><p>main</p>")
    await asked.settle()
    assert b"<title>Mine</title>" in asked.body
    assert asked.done


async def test_page_headers() -> None:
    site = Site(page(document(b"x")))
    asked = site.ask()
    assert asked.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert asked.headers[b"cache-control"] == b"private, no-cache"
    assert asked.headers[b"vary"] == b"Accept, Accept-Encoding, HX-Request, Turbo-Frame, X-Up-Target"
    assert asked.headers[b"x-content-type-options"] == b"nosniff"
    assert b"referrer-policy" in asked.headers
    assert b"etag" not in asked.headers
    policy = asked.headers[b"content-security-policy"].decode()
    nonces = re.findall(r"'nonce-([0-9a-f]{32})'", policy)
    assert len(nonces) == 2
    assert nonces[0] == nonces[1]
    assert policy == (
        f"default-src 'self'; script-src 'self' 'nonce-{nonces[0]}'; style-src 'self' 'nonce-{nonces[0]}'; "
        "img-src 'self' data: https:; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'self'"
    )
    assert asked.headers[b"server-timing"].startswith(b"bff;dur=")
    assert asked.headers[b"x-request-id"]
    assert site.ask().headers[b"content-security-policy"] != asked.headers[b"content-security-policy"]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.CONNECT, 502),
        (Reason.TORN, 502),
        (Reason.TIMEOUT, 504),
        (Reason.CONCURRENCY, 503),
        (Reason.TOO_LARGE, 502),
    ],
)
async def test_a_failed_primary_makes_the_page_its_error_page(reason: Reason, status: int) -> None:
    site = Site(page(PRIMARY, error=ERROR))
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").fail(reason)
    await asked.settle()
    assert asked.status == status
    assert b"<h1>Sorry</h1>" in asked.body
    assert asked.headers.get(b"retry-after") == (b"1" if status == 503 else None)
    site.world.upstreams.open[-1].reply(b"<p>side</p>")
    await asked.settle()
    assert asked.done
    assert b"<p>side</p>" in asked.body
    slots = site.world.seen.pages[0].slots
    assert [(ended.fragment, ended.result.reason) for ended in slots] == [
        ("shop/main", reason),
        ("shop/side", Reason.OK),
    ]


async def test_without_an_error_shell_it_is_a_small_page_or_a_problem() -> None:
    site = Site(page(PRIMARY))
    asked = await site.ask(accept="text/html").settle()
    site.world.upstreams.to("/main").fail()
    await asked.settle()
    assert asked.status == 502
    assert asked.headers[b"content-type"] == b"text/html; charset=utf-8"
    asked = await site.ask(accept="image/png").settle()
    site.world.upstreams.to("/main").fail()
    await asked.settle()
    assert asked.headers[b"content-type"] == b"application/problem+json"
    asked = await site.ask(accept="application/json").settle()
    site.world.upstreams.to("/main").fail()
    await asked.settle()
    assert asked.status == 502
    assert asked.headers[b"content-type"] == b"application/problem+json"
    assert json.loads(asked.body)["status"] == 502


@pytest.mark.parametrize("status", [400, 403, 404, 410, 422])
async def test_the_primarys_own_error_is_the_pages_with_its_body_in_place(status: int) -> None:
    site = Site(page(PRIMARY, error=ERROR))
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"<h1>own</h1>", status)
    site.world.upstreams.to("/side").reply()
    await asked.settle()
    assert asked.status == status
    assert b"<h1>own</h1>" in asked.body


async def test_its_own_error_that_nobody_registered_passes_without_a_body_too() -> None:
    site = Site(page(PRIMARY))
    asked = await site.ask(accept="text/html").settle()
    site.world.upstreams.to("/main").reply(b"", 499)
    await asked.settle()
    assert asked.status == 499
    assert b"<h1>Client Error</h1>" in asked.body


async def test_its_own_error_without_a_body_shows_the_error_shell_with_its_status() -> None:
    site = Site(page(PRIMARY, error=ERROR))
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"", 404)
    await asked.settle()
    assert asked.status == 404
    assert b"<h1>Sorry</h1>" in asked.body
    asked.gone[0]()
    await asked.settle()


async def test_a_redirect_goes_out_before_any_byte_with_granted_cookies_only() -> None:
    site = Site(page(PRIMARY))
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"", 303, location="/next", set_cookie="csrftoken=1; Domain=x")
    await asked.settle()
    assert asked.status == 303
    assert asked.headers[b"location"] == b"/next"
    assert asked.headers[b"set-cookie"] == b"csrftoken=1"
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"", 302, location="/next", set_cookie="session=1")
    await asked.settle()
    assert b"set-cookie" not in asked.headers


async def test_a_redirect_to_the_gateways_own_address_is_one_to_its_path() -> None:
    site = Site(page(PRIMARY))
    asked = await site.ask(host="shop.example").settle()
    site.world.upstreams.to("/main").reply(b"", 302, location="http://shop.example/back?to=it")
    await asked.settle()
    assert (asked.status, asked.headers[b"location"]) == (302, b"/back?to=it")


async def test_a_redirect_that_is_not_granted_is_an_error() -> None:
    site = Site(page(PRIMARY, error=ERROR))
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"", 302, location="https://evil.example")
    await asked.settle()
    assert asked.status == 502
    assert b"evil" not in asked.body
    asked.gone[0]()
    await asked.settle()
    told = site.world.seen.pages[-1].slots[0].result
    assert (told.reason, told.detail) == (Reason.REFUSED, "redirects to where it may not")


async def test_who_reads_of_a_redirect_that_is_not_granted_reads_why() -> None:
    site = Site(page(PRIMARY))
    asked = await site.ask(accept="application/json").settle()
    site.world.upstreams.to("/main").reply(b"", 302, location="https://evil.example")
    await asked.settle()
    assert json.loads(asked.body)["detail"] == "The main part of this page is not available (refused)."


async def test_a_stale_or_fallback_primary_is_200() -> None:
    kept = fragment("shop/main", layer={"cache.fresh": "1s", "cache.stale_if_error": "1m"})
    site = Site(page(PRIMARY))
    site.world = World(
        page(document(slot(1, "shop/main", kind="primary", policy={"cache.stale_if_error": "1m"}))),
        fragments={"shop/main": kept},
    )
    site.pages.planner = site.world.planner
    site.pages._resolver = site.world.resolver
    site.pages._clock = site.world.loop.time
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"<p>main</p>")
    await asked.settle()
    site.world.loop.advance(5)
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").fail()
    await asked.settle()
    assert asked.status == 200
    assert b'state="stale" age="5"' in asked.body


async def test_the_deadline_ends_the_page_with_everything_well_formed() -> None:
    site = Site(page(document(slot(1, "shop/side", placeholder=(b"wait",)), slot(2, "shop/main"))))
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"<p>main</p>")
    site.world.loop.advance(1.97)
    await asked.settle()
    assert asked.done
    assert b'state="pending" src="/_bff/fragments/shop/side">wait' in asked.body
    assert asked.body.endswith(b"</body></html>")
    assert site.world.loop.now < 2
    late = site.world.upstreams.to("/side")
    late.reply(b"<p>late</p>")
    again = site.ask()
    assert b"<p>late</p>" in again.body


async def test_a_silent_primary_is_504_by_the_deadline() -> None:
    site = Site(page(PRIMARY, error=document(b"<h1>Sorry</h1>")))
    asked = await site.ask().settle()
    site.world.loop.advance(1.97)
    await asked.settle()
    assert asked.status == 504
    assert asked.done


async def test_when_the_browser_goes_nothing_more_is_sent() -> None:
    site = Site(page(document(slot(1, "shop/side"))))
    asked = await site.ask().settle()
    sent = len(asked.sent)
    asked.gone[0]()
    await asked.settle()
    assert asked.done
    assert len(asked.sent) == sent
    assert site.world.seen.pages[0].disconnected
    before = await site.ask().settle()
    asked = Site(page(PRIMARY)).ask()
    await asked.settle()
    asked.gone[0]()
    await asked.settle()
    assert asked.sent == []
    before.gone[0]()
    await before.settle()


async def test_head_resolves_only_the_primary() -> None:
    site = Site(page(PRIMARY))
    asked = await site.ask(method="HEAD").settle()
    assert [flown.ask.target for flown in site.world.upstreams.flown] == ["/main"]
    site.world.upstreams.to("/main").reply(b"<p>main</p>")
    await asked.settle()
    assert asked.status == 200
    assert asked.body == b""
    assert b"content-length" not in asked.headers
    again = site.ask(method="HEAD")
    assert again.now is not None
    assert again.body == b""


async def test_lines_and_documents_for_programs() -> None:
    site = Site(page(PRIMARY))
    asked = await site.ask(accept="application/x-ndjson").settle()
    site.world.upstreams.to("/main").reply(b"<p>main</p>")
    await asked.settle()
    assert asked.headers[b"content-type"] == b"application/x-ndjson"
    assert asked.headers[b"cache-control"] == b"no-store"
    site.world.upstreams.to("/side").reply(b"<p>side</p>")
    await asked.settle()
    lines = [json.loads(line) for line in asked.body.splitlines()]
    assert [line.get("slot") for line in lines] == [None, "s1", "s2", None]
    again = site.ask(accept="application/json")
    assert again.headers[b"content-type"] == b"application/json"
    assert {s["reason"] for s in json.loads(again.body)["slots"].values()} == {"hit"}


async def test_a_document_waits_for_all() -> None:
    site = Site(page(document(slot(1, "shop/main"), slot(2, "shop/side"))))
    asked = await site.ask(accept="application/json").settle()
    site.world.upstreams.to("/main").reply()
    await asked.settle()
    assert asked.sent == []
    site.world.upstreams.to("/side").reply()
    await asked.settle()
    assert asked.done
    assert int(asked.headers[b"content-length"]) == len(asked.body)


async def test_a_document_whose_browser_goes_is_not_sent() -> None:
    site = Site(page(document(slot(1, "shop/main"))))
    asked = await site.ask(accept="application/json").settle()
    asked.gone[0]()
    await asked.settle()
    assert asked.done
    assert asked.sent == []


async def test_queries_are_checked() -> None:
    site = Site(
        page(document(b"x"), query={"q": text_param("q"), "m": text_param("m", required=False, many=True, max=2)})
    )
    assert site.ask(query="q=1&undeclared=2").status == 200
    assert site.ask(query="q=1&q=2").status == 400
    assert site.ask().status == 400
    assert site.ask(query="q=" + "x" * 300).status == 400
    assert site.ask(query="q=1&m=1&m=2").status == 200
    bad = site.ask(query="q=1&m=1&m=2&m=3", accept="application/json")
    assert bad.status == 400
    assert "more than once" in json.loads(bad.body)["detail"]


async def test_what_is_no_utf_8_is_bad_where_it_is_declared_and_ignored_elsewhere() -> None:
    site = Site(page(document(b"x"), query={"q": compile_param("q", default=("",))}))
    assert site.ask(query="q=%C3%A9&other=%FF&%FF=1").status == 200
    bad = site.ask(query="q=a%FF", accept="application/json")
    assert (bad.status, json.loads(bad.body)["detail"]) == (400, "the query parameter 'q' is not a valid str")


async def test_no_page_is_404_and_a_primary_without_its_parameters_too() -> None:
    needs = fragment("shop/main", params={"n": text_param("n")})
    site = Site(page(PRIMARY, error=document(b"<h1>Sorry</h1>")))
    assert site.ask("/nowhere").status == 404
    site.world = World(page(PRIMARY, error=document(b"<h1>Sorry</h1>")), fragments=BOTH | {"shop/main": needs})
    site.pages.planner = site.world.planner
    site.pages._resolver = site.world.resolver
    asked = await site.ask().settle()
    assert asked.status == 404
    assert b"Sorry" in asked.body


async def test_the_overlays_data_is_safe_in_a_script() -> None:
    site = Site(page(document(slot(1, "shop/side"))), dev=True)
    asked = await site.ask().settle()
    site.world.upstreams.to("/side").reply(b"</script>", kind=b"text/</script>")
    await asked.settle()
    data = re.search(rb'<script type="application/json" id="bff-overlay">(.*?)</script>', asked.body)
    assert data is not None
    slots = json.loads(data[1])["slots"]
    assert slots[0]["reason"] == "refused"
    assert slots[0]["owner"] == "team-shop"
    assert slots[0]["timing"]["total"] == 10.0


async def test_the_store_may_hold_the_primary_of_a_page_that_still_streams() -> None:
    site = Site(page(PRIMARY, error=ERROR))
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"<p>main</p>")
    await asked.settle()
    asked.gone[0]()
    await asked.settle()
    site.world.upstreams.to("/side").reply(b"<p>side</p>")
    assert site.ask().now is not None


async def test_a_kept_error_of_the_primary_begins_the_error_page() -> None:
    site = Site(page(PRIMARY, error=ERROR))
    asked = await site.ask().settle()
    site.world.upstreams.to("/main").reply(b"", 404)
    await asked.settle()
    site.world.upstreams.open[-1].reply(b"<p>side</p>")
    await asked.settle()
    again = site.ask()
    assert again.now is not None
    assert again.status == 404
    assert b"Sorry" in again.body


async def test_slots_are_told_only_where_somebody_listens() -> None:
    site = Site(page(document(slot(1, "shop/side"))), logs=False)
    asked = await site.ask().settle()
    site.world.upstreams.to("/side").reply()
    await asked.settle()
    assert site.world.seen.pages[0].slots == ()
    told: list[Any] = []
    site.pages.witness = told.append
    site.ask()
    assert [ended.fragment for ended in told[0].slots] == ["shop/side"]


async def test_a_policy_that_only_reports() -> None:
    site = Site(page(document(b"x")))
    site.pages.planner = planner(
        page(document(b"x")), csp=Csp({"img-src": ["https://img.example"]}, "/csp", enforce=False)
    )
    head = site.ask().headers
    assert b"content-security-policy" not in head
    policy = head[b"content-security-policy-report-only"]
    assert b"img-src 'self' data: https: https://img.example" in policy
    assert policy.endswith(b"; report-uri /csp")


async def test_a_page_leaves_no_garbage_behind() -> None:
    site = Site(page(PRIMARY, error=ERROR))
    gc.collect()
    gc.disable()
    try:
        for path in ("/main", "/side"):
            asked = await site.ask().settle()
            for flown in site.world.upstreams.open:
                flown.reply(b"<p>x</p>") if flown.ask.target == path else flown.fail()
            await asked.settle()
            for flown in site.world.upstreams.open:
                flown.reply(b"<p>x</p>")
            await asked.settle()
            assert asked.done
            site.ask()
        del asked, flown
        kinds = _unreachable()
    finally:
        gc.enable()
    assert kinds.isdisjoint({"Composition", "Running", "Turn", "HtmlWriter", "Wait", "Flight"})


def _unreachable() -> set[str]:
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    kinds = {type(each).__name__ for each in gc.garbage}
    gc.set_debug(0)
    gc.garbage.clear()
    return kinds


@pytest.mark.parametrize(
    ("purpose", "ahead"), [("prefetch", True), ("prefetch;prerender", True), ("", False), ("x", False)]
)
async def test_a_page_made_ahead_of_a_visit_says_so(purpose: str, *, ahead: bool) -> None:
    site = Site(page(document(b"<main>nothing to wait for</main>")))
    site.ask(sec_purpose=purpose)
    site.ask(x_sec_purpose=purpose)
    site.ask()
    assert [report.prefetch for report in site.world.seen.pages] == [ahead, ahead, False]
