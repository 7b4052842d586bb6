"""The shelf: what contexts have is fetched in the background, and stays when they are gone."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha384
from typing import Any

import anyio
import pytest

from bff.gateway.assets import KEPT, LARGEST, RETIRED, Shelf
from bff.model import Ask, Assets, Failure, Fragment, Reason, Reply, Timing
from tests.build import Seen, fragment
from tests.fakes import until

pytestmark = pytest.mark.anyio

DOWN = Failure(reason=Reason.CONNECT, status="connect", detail="nobody there")


@dataclass
class Service:
    """A context that has files; answers what it is asked for at once."""

    files: dict[str, bytes | Failure | int] = field(default_factory=dict)
    asked: list[Ask] = field(default_factory=list)
    down: bool = False
    more: tuple[tuple[bytes, bytes], ...] = ()
    held: asyncio.Event | None = None
    most: int = 0

    def __call__(self, ask: Ask, done: Callable[[Reply | Failure], None]) -> "Service":
        self.asked.append(ask)
        self.most = ask.bounds.max_body
        asyncio.get_running_loop().call_soon(done, self._reply(ask))
        return self

    def cancel(self) -> None: ...

    def _reply(self, ask: Ask) -> Reply | Failure:
        found = DOWN if self.down else self.files.get(ask.target, 404)
        if isinstance(found, Failure):
            return found
        if isinstance(found, int):
            return Reply(status=found, headers=[], body=b"", timing=Timing())
        etag = b'"%d"' % hash(found)
        status, body = (304, b"") if b"if-none-match: " + etag in ask.headers else (200, found)
        return Reply(status=status, headers=[(b"etag", etag), *self.more], body=body, timing=Timing())


class Lab:
    """A shelf over a service, with a clock of its own."""

    def __init__(self, *fragments: Fragment) -> None:
        self.now = 0.0
        self.service = Service()
        self.told: list[dict[str, Any]] = []
        self.changes = 0
        self.shelf = Shelf(
            fetch=self.service, telemetry=Seen(), log=self, changed=self._changed, clock=lambda: self.now
        )
        self.register(*fragments)

    def register(self, *fragments: Fragment) -> None:
        self.shelf.register({each.name: each for each in fragments})

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        assert (event, level) == ("asset-failed", "warning")
        self.told.append(fields)

    def _changed(self) -> None:
        self.changes += 1

    def urls(self, name: str = "shop/card") -> list[str]:
        found = self.shelf.hoisted[name]
        return [link.url for link in (*found.css, *found.js, *found.imports)]

    async def body(self, url: str) -> bytes | None:
        answer = await self.shelf.answer(url.removeprefix("/_bff/assets/"), [])
        return answer.body if answer.status == 200 else None

    async def refresh(self) -> None:
        await self.shelf.refresh()


CARD = fragment("shop/card", assets=Assets(css=("/css/card.css",), js=("/card.js",)))
BUILT = fragment("shop/card", assets=Assets(vite="/.vite/manifest.json", entry="src/card.ts"))
MANIFEST = {"src/card.ts": {"file": "assets/card-BRBmoGS9.js", "css": ["assets/card-5UjPuW-k.css"], "imports": ["_s"]}}
MANIFEST |= {"_s": {"file": "assets/s-B7PI925R.js", "assets": ["assets/logo-DkY7qsPX.svg"]}}
BUILD: dict[str, bytes | Failure | int] = {
    "/.vite/manifest.json": json.dumps(MANIFEST).encode(),
    "/assets/card-BRBmoGS9.js": b"import './s-B7PI925R.js'",
    "/assets/card-5UjPuW-k.css": b"a{}",
    "/assets/s-B7PI925R.js": b"shared",
    "/assets/logo-DkY7qsPX.svg": b"<svg/>",
}


async def test_files_get_names_that_never_change_their_content() -> None:
    lab = Lab(CARD)
    lab.service.files = {"/css/card.css": b"a{color:red}", "/card.js": b"1"}
    await lab.refresh()
    css, js = lab.urls()
    assert css.startswith("/_bff/assets/shop/css/card.")
    assert css.endswith(".css")
    assert await lab.body(css) == b"a{color:red}"
    assert lab.changes == 1
    answer = await lab.shelf.answer(js.removeprefix("/_bff/assets/"), [])
    headers = dict(answer.headers)
    assert headers[b"cache-control"] == b"public, max-age=31536000, immutable"
    assert headers[b"content-type"] == b"text/javascript; charset=utf-8"
    assert lab.shelf.hoisted["shop/card"].css[0].integrity.startswith("sha384-")


async def test_nothing_new_changes_nothing() -> None:
    lab = Lab(CARD)
    lab.service.files = {"/css/card.css": b"a{}", "/card.js": b"1"}
    await lab.refresh()
    before = lab.urls()
    await lab.refresh()
    assert (lab.changes, lab.urls()) == (1, before)
    assert b"if-none-match" in lab.service.asked[-1].headers
    assert lab.service.most == LARGEST


async def test_new_content_has_a_new_name_and_the_old_one_stays_for_a_day() -> None:
    lab = Lab(CARD)
    lab.service.files = {"/css/card.css": b"old", "/card.js": b"1"}
    await lab.refresh()
    old = lab.urls()[0]
    lab.service.files["/css/card.css"] = b"new"
    await lab.refresh()
    new = lab.urls()[0]
    assert new != old
    assert lab.changes == 2
    for passed, expected in ((0.0, b"old"), (KEPT - 1, b"old"), (KEPT + 1, None)):
        lab.now = passed
        await lab.refresh()
        assert await lab.body(old) == expected
    assert await lab.body(new) == b"new"


async def test_what_comes_back_is_in_use_again() -> None:
    lab = Lab(CARD)
    lab.service.files = {"/css/card.css": b"old", "/card.js": b"1"}
    await lab.refresh()
    old = lab.urls()[0]
    for content in (b"new", b"old"):
        lab.service.files["/css/card.css"] = content
        await lab.refresh()
    lab.now = KEPT + 1
    await lab.refresh()
    assert lab.urls()[0] == old
    assert await lab.body(old) == b"old"


@pytest.mark.parametrize("trouble", ["down", 404, 500, 302, "coded"])
async def test_a_context_in_trouble_changes_nothing(trouble: str | int) -> None:
    lab = Lab(CARD)
    lab.service.files = {"/css/card.css": b"a{}", "/card.js": b"1"}
    await lab.refresh()
    before = lab.urls()
    if trouble == "down":
        lab.service.down = True
    elif trouble == "coded":
        lab.service.files = {"/css/card.css": b"b{}", "/card.js": b"2"}
        lab.service.more = ((b"content-encoding", b"gzip"),)
    else:
        lab.service.files = {"/css/card.css": int(trouble), "/card.js": int(trouble)}
    for _ in range(3):
        lab.now += KEPT
        await lab.refresh()
    assert (lab.urls(), lab.changes) == (before, 1)
    assert await lab.body(before[0]) == b"a{}"
    assert [told["path"] for told in lab.told] == ["/css/card.css", "/card.js"], "each is told once"


async def test_a_context_that_never_was_there_leaves_pages_without() -> None:
    lab = Lab(CARD)
    lab.service.down = True
    await lab.refresh()
    assert (lab.shelf.hoisted, lab.changes) == ({}, 0)
    lab.service.down = False
    lab.service.files = {"/card.js": b"1"}
    await lab.refresh()
    assert [url.rpartition(".")[2] for url in lab.urls()] == ["js"], "what is there counts"


async def test_a_build_works_as_a_whole() -> None:
    lab = Lab(BUILT)
    lab.service.files = {**BUILD, "/assets/s-B7PI925R.js": 503}
    await lab.refresh()
    assert lab.shelf.hoisted == {}
    lab.service.files = {**BUILD}
    await lab.refresh()
    assert lab.urls() == [
        "/_bff/assets/shop/assets/card-5UjPuW-k.css",
        "/_bff/assets/shop/assets/card-BRBmoGS9.js",
        "/_bff/assets/shop/assets/s-B7PI925R.js",
    ]
    assert await lab.body("/_bff/assets/shop/assets/logo-DkY7qsPX.svg") == b"<svg/>", "what modules load is there too"
    lab.service.asked.clear()
    await lab.refresh()
    assert [ask.target for ask in lab.service.asked] == ["/.vite/manifest.json"], "hashed files are asked for once"


async def test_a_broken_build_leaves_the_last_one() -> None:
    lab = Lab(BUILT)
    lab.service.files = {**BUILD}
    await lab.refresh()
    before = lab.urls()
    for broken in (b"{}", json.dumps({"src/card.ts": {"file": "gone-12345678.js"}}).encode()):
        lab.service.files["/.vite/manifest.json"] = broken
        lab.now += KEPT
        await lab.refresh()
    assert lab.urls() == before
    assert await lab.body("/_bff/assets/shop/assets/logo-DkY7qsPX.svg") == b"<svg/>"
    assert lab.told[0]["detail"] == "the manifest has no entry 'src/card.ts'"


async def test_what_the_build_registered_must_be_what_it_is() -> None:
    lab = Lab(BUILT)
    chunk = {"file": "a-12345678.js", "integrity": "sha384-wrong sha512-x"}
    lab.service.files = {"/.vite/manifest.json": json.dumps({"src/card.ts": chunk}).encode(), "/a-12345678.js": b"1"}
    await lab.refresh()
    assert lab.shelf.hoisted == {}
    right = base64.b64encode(sha384(b"1").digest()).decode()
    chunk["integrity"] = f"sha512-x sha384-{right}"
    lab.service.files["/.vite/manifest.json"] = json.dumps({"src/card.ts": chunk}).encode()
    await lab.refresh()
    assert len(lab.urls()) == 1


async def test_a_build_without_hashes_gets_a_folder_of_its_content() -> None:
    lab = Lab(BUILT)
    manifest = json.dumps({"src/card.ts": {"file": "card.js", "css": ["card.css"]}}).encode()
    lab.service.files = {"/.vite/manifest.json": manifest, "/card.js": b"1", "/card.css": b"a{}"}
    await lab.refresh()
    css, js = lab.urls()
    folder = css.rpartition("/")[0]
    assert folder == js.rpartition("/")[0], "relative imports hold"
    lab.service.files["/card.js"] = b"2"
    await lab.refresh()
    assert lab.urls()[1] != js
    assert await lab.body(js) == b"1"


async def test_a_path_is_asked_for_once_a_look() -> None:
    other = fragment("shop/other", assets=CARD.assets)
    lab = Lab(CARD, other)
    lab.service.files = {"/css/card.css": b"a{}", "/card.js": b"1"}
    await lab.refresh()
    assert len(lab.service.asked) == 2
    assert lab.urls("shop/other") == lab.urls("shop/card")


async def test_who_is_not_asked() -> None:
    off = fragment("shop/off", assets=CARD.assets, layer={"state": "stored"})
    boxed = fragment("shop/boxed", assets=CARD.assets, trust="sandboxed")
    lab = Lab(off, boxed, fragment("shop/plain"))
    await lab.refresh()
    assert lab.service.asked == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/style", "style"),
        ("/a%20b.css", "a_20b"),
        ("/a.php", "a"),
        ("/", "css"),
    ],
)
async def test_any_path_gets_a_name_of_its_kind(path: str, name: str) -> None:
    lab = Lab(fragment("shop/card", assets=Assets(css=(path,))))
    lab.service.files = {path: b"a{}"}
    await lab.refresh()
    [url] = lab.urls()
    assert url.startswith(f"/_bff/assets/shop/{name}.")
    assert url.endswith(".css")


async def test_the_oldest_go_first_where_there_are_too_many() -> None:
    lab = Lab(fragment("shop/card", assets=Assets(css=("/font.woff2",))))
    urls = []
    for number in range(4):
        lab.now = float(number)
        lab.service.files = {"/font.woff2": bytes([number]) * (RETIRED // 2 + 1)}
        await lab.refresh()
        urls.append(lab.urls()[0])
    assert [await lab.body(url) is not None for url in urls] == [False, False, True, True]


async def test_registrations_that_go_take_their_assets_along() -> None:
    lab = Lab(CARD)
    lab.service.files = {"/css/card.css": b"a{}", "/card.js": b"1"}
    await lab.refresh()
    url = lab.urls()[0]
    lab.register()
    await lab.refresh()
    assert lab.shelf.hoisted == {}
    assert lab.changes == 2
    assert await lab.body(url) == b"a{}", "open pages may still ask"


async def test_it_looks_by_itself_and_again_when_told() -> None:
    lab = Lab(CARD)
    lab.service.files = {"/css/card.css": b"a{}", "/card.js": b"1"}
    async with anyio.create_task_group() as group:
        group.start_soon(lab.shelf.run)
        await lab.shelf.settled(10)
        assert len(lab.urls()) == 2
        lab.service.files["/css/card.css"] = b"b{}"
        old = lab.urls()[0]
        lab.register(CARD)
        await until(lambda: lab.urls()[0] != old, "another look")
        group.cancel_scope.cancel()


async def test_a_name_that_another_worker_gave_is_looked_for() -> None:
    lab, other = Lab(CARD), Lab(CARD)
    lab.service.files = other.service.files = {"/css/card.css": b"a{}", "/card.js": b"1"}
    async with anyio.create_task_group() as group:
        group.start_soon(lab.shelf.run)
        await lab.shelf.settled(10)
        other.service.files["/css/card.css"] = b"b{}"
        await other.refresh()
        lab.now = 0.5
        assert await lab.body(other.urls()[0]) is None, "it has just looked"
        lab.now = 1.5
        assert await lab.body(other.urls()[0]) == b"b{}"
        assert await lab.body("/_bff/assets/nobody/x.css") is None
        group.cancel_scope.cancel()


async def test_a_defect_costs_assets_only(caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab(CARD)

    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("a defect")

    lab.shelf._fetch = broken
    async with anyio.create_task_group() as group:
        group.start_soon(lab.shelf.run)
        await lab.shelf.settled(10)
        group.cancel_scope.cancel()
    assert "the assets could not be looked at" in caplog.text


async def test_nobody_waits_where_nothing_is_wanted() -> None:
    await Lab().shelf.settled(10)
