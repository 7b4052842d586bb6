"""Encoded forms kept beside stored fragments: made once, the same to every client, counted, and gone with their entry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from bff.gateway import forms
from bff.gateway.compress import CODINGS, LARGE, Coding, Idle
from bff.gateway.problems import Answer
from bff.model import NONCE, Markup, Purge
from bff.store.entry import OVERHEAD_OF_FORM, Entry
from bff.store.memory import MemoryStore
from tests.gateway.proxies import NONE, Site, Upstream, said, site
from tests.gateway.test_compress import decoder
from tests.gateway.wire import Answer as Told
from tests.store.entries import entry

pytestmark = pytest.mark.anyio

PROSE = b"<p>what a course is about, and who teaches it</p>" * 40
DATA = b'{"results": [%b]}' % b", ".join(b'{"key": "course-v1:edX+D%d"}' % n for n in range(99))


def answer(made: Entry, *, data: bool = False, **headers: str) -> Answer:
    assert made.markup is not None
    body = made.data if data else made.markup.flat
    assert body is not None
    kind = b"application/json" if data else b"text/html"
    more = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return Answer(200, [(b"content-type", kind), (b"cache-control", b"public, max-age=9"), *more], body)


def asks(coding: str, **headers: str) -> list[tuple[bytes, bytes]]:
    more = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return [(b"accept-encoding", coding.encode()), *more]


def stored(budget: int = 10**6, body: bytes = PROSE, key: str = "a/b") -> tuple[MemoryStore, Entry]:
    store = MemoryStore(budget)
    made = entry(key, markup=Markup(parts=(body,), flat=body), data=DATA)
    assert store.put(made)
    return store, made


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("data", [False, True])
async def test_what_is_asked_for_again_is_encoded_no_third_time(coding: Coding, data: bool) -> None:
    store, made = stored()
    given = answer(made, data=data, vary="Accept", etag='W/"x"', content_length="1")
    first, second, third, fourth = [await forms.suited(given, asks(coding), made, store) for _ in range(4)]
    assert made.forms is not None
    [form] = made.forms.values()
    assert first.body is not form
    assert all(each.body is form for each in (second, third, fourth))
    assert first == second == third, "nobody can tell"
    assert decoder(coding)(form) == given.body
    head = dict(third.headers)
    assert (head[b"content-encoding"], head[b"etag"]) == (coding.encode(), b'W/"x"')
    assert (head[b"content-length"], head[b"vary"]) == (b"%d" % len(form), b"Accept, Accept-Encoding")


async def test_each_text_and_coding_is_its_own() -> None:
    store, made = stored()
    for data in (False, True):
        for coding in CODINGS:
            for _ in range(3):
                told = await forms.suited(answer(made, data=data), asks(coding), made, store)
                assert decoder(coding)(told.body) == (DATA if data else PROSE)
    assert made.forms is not None
    assert len(made.forms) == 6
    assert (await forms.suited(answer(made), [], made, store)).body is PROSE


async def test_it_counts_against_the_budget_and_leaves_with_its_entry() -> None:
    store, made = stored()
    before = store.bytes
    await forms.suited(answer(made), asks("gzip"), made, store)
    assert store.bytes == before, "asked for once"
    form = (await forms.suited(answer(made), asks("gzip"), made, store)).body
    assert store.bytes == made.size == before + OVERHEAD_OF_FORM + len(form)
    assert store.get("a/b") is made
    store.purge(Purge(kind="fragment", value="a/b"), 1.0)
    store.sweep()
    assert (store.get("a/b"), store.bytes) == (None, 0)


async def test_room_is_made_for_it_or_it_is_not_kept() -> None:
    store, made = stored(3 * 1024 + len(PROSE) + len(DATA))
    assert store.put(entry("other", 100))
    for _ in range(3):
        await forms.suited(answer(made), asks("zstd"), made, store)
    assert made.forms
    assert store.get("other") is not None
    store, made = stored(1024 + len(PROSE) + len(DATA) + 5)
    for _ in range(3):
        assert decoder("zstd")((await forms.suited(answer(made), asks("zstd"), made, store)).body) == PROSE
    assert not made.forms
    assert store.get("a/b") is made


async def test_what_is_not_kept_any_more_keeps_nothing() -> None:
    store, made = stored()
    await forms.suited(answer(made), asks("zstd"), made, store)
    newer = entry("a/b", 10)
    store.put(newer)
    await forms.suited(answer(made), asks("zstd"), made, store)
    assert not made.forms
    assert store.get("a/b") is newer
    assert store.bytes == newer.size


@pytest.mark.parametrize(
    "given",
    [
        Answer(200, [(b"content-type", b"text/html")], PROSE + b"<p>more</p>"),
        Answer(200, [(b"content-type", b"text/html")], b"<p>little</p>"),
        Answer(304, []),
        Answer(404, [(b"content-type", b"application/problem+json")], b" " * 2000),
    ],
    ids=["more than is stored", "tiny", "not modified", "an error"],
)
async def test_other_bodies_are_not_kept(given: Answer) -> None:
    store, made = stored()
    for _ in range(3):
        await forms.suited(given, asks("zstd"), made, store)
        await forms.suited(given, asks("zstd"), None, store)
    assert made.forms is None


async def test_what_grows_or_is_too_little_is_not_kept() -> None:
    store, made = stored(body=b"short")
    for _ in range(3):
        assert (await forms.suited(answer(made), asks("zstd"), made, store)).body == b"short"
    assert made.forms is None
    noise = Random(1).randbytes(1100)
    store, made = stored(body=noise)
    for _ in range(3):
        assert decoder("br")((await forms.suited(answer(made), asks("br"), made, store)).body) == noise
    assert made.forms == {}


async def test_markup_that_is_put_together_for_each_answer_is_not_kept() -> None:
    store = MemoryStore(10**6)
    made = entry("a/b", markup=Markup(parts=(PROSE, NONCE, PROSE), flat=None))
    store.put(made)
    given = Answer(200, [(b"content-type", b"text/html")], PROSE + PROSE)
    for _ in range(3):
        assert decoder("zstd")((await forms.suited(given, asks("zstd"), made, store)).body) == PROSE + PROSE
    assert made.forms is None


async def test_another_site_gets_nothing_encoded_of_what_is_somebodys_own() -> None:
    store, made = stored()
    own = Answer(200, [(b"content-type", b"text/html"), (b"cache-control", b"private, no-cache")], PROSE)
    for _ in range(3):
        await forms.suited(own, asks("zstd"), made, store)
    assert made.forms
    foreign = asks("zstd", sec_fetch_site="cross-site")
    assert await forms.suited(own, foreign, made, store) is own
    assert (await forms.suited(answer(made), foreign, made, store)).body in made.forms.values()


async def test_large_ones_too() -> None:
    store, made = stored(10**7, PROSE * (LARGE // len(PROSE) + 1))
    told = [await forms.suited(answer(made), asks("gzip"), made, store) for _ in range(3)]
    assert made.forms
    assert told[1].body is told[2].body


# --- over sockets -----------------------------------------------------------------------------------------------------

REGISTRATION = """policy: {cache: {mode: fixed, fresh: 1h}}
fragments:
  prose: {path: /prose}
  list: {path: /list, source: json, template: templates/list.html}
"""
TEMPLATE = "<ul>{% for each in data.results %}<li>{{ each.key }}</li>{% endfor %}</ul>"


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Site, Upstream]]:
    templates = folder / "fragments" / "shop" / "templates"
    templates.mkdir(parents=True)
    (templates / "list.html").write_text(TEMPLATE)
    upstream = Upstream([said(PROSE, content_type="text/html")])
    async with site(folder, upstream, REGISTRATION) as made:
        yield made, upstream


async def ask(made: Site, name: str = "prose", method: str = "GET", headers: Mapping[str, str] = NONE) -> Told:
    return await made.ask(f"/_bff/fragments/shop/{name}", method, headers=headers)


async def test_the_endpoint_tells_no_difference(tmp_path: Path) -> None:
    async with serving(tmp_path) as (made, upstream):
        plain = await ask(made)
        for coding in CODINGS:
            wants = {"Accept-Encoding": coding}
            told = [await ask(made, headers=wants) for _ in range(4)]
            assert [decoder(coding)(each.body) for each in told] == [PROSE] * 4
            assert {each.headers["content-length"] for each in told} == {str(len(told[0].body))}
            assert {each.headers["etag"] for each in told} == {plain.headers["etag"]}
            assert {each.headers["content-encoding"] for each in told} == {coding}
            assert "Accept-Encoding" in told[3].headers["vary"]
            head = await ask(made, method="HEAD", headers=wants)
            assert (head.headers["content-length"], head.headers["content-encoding"]) == (str(len(told[0].body)), coding)  # fmt: skip
            same = await ask(made, headers={**wants, "If-None-Match": told[3].headers["etag"]})
            assert (same.status, same.body, same.headers["etag"]) == (304, b"", plain.headers["etag"])
        assert (await ask(made)).body == PROSE
        framed = await ask(made, headers={"Accept-Encoding": "gzip", "Turbo-Frame": "f"})
        assert decoder("gzip")(framed.body) == b'<turbo-frame id="f">' + PROSE + b"</turbo-frame>"
        assert len(upstream.asked) == 1
        assert made.running.store.bytes > made.running.store.entries * 1024 + len(PROSE) + 3 * OVERHEAD_OF_FORM


def test_the_etag_of_what_is_stored_is_made_once_and_kept_by_kind() -> None:
    store, made = stored()
    assert made.markup is not None
    body, data = made.markup.flat, made.data
    assert body is not None
    assert data is not None
    html = forms.etag(body, made)
    assert forms.etag(body, made) is html
    assert forms.etag(data, made) != html
    assert made.etags == {"html": html, "data": forms.etag(data, made)}
    assert forms.etag(bytes(bytearray(body)), made) == html, "the same bytes, wherever they are from"
    assert forms.etag(b"framed", made) == forms.etag(b"framed", None)
    assert len(made.etags) == 2
    assert store.bytes == made.size


async def test_compressors_are_lent() -> None:
    store, made = stored()
    idle: Idle = []
    await forms.suited(answer(made), asks("zstd"), None, store, idle)
    [lent] = idle
    told = await forms.suited(answer(made), asks("zstd"), made, store, idle)
    assert idle == [lent]
    assert decoder("zstd")(told.body) == PROSE


async def test_data_and_what_a_template_makes_of_it_are_told_apart(tmp_path: Path) -> None:
    async with serving(tmp_path) as (made, upstream):
        upstream.answers = [said(DATA, content_type="application/json")]
        for _ in range(3):
            data = await ask(made, "list", headers={"Accept-Encoding": "zstd", "Accept": "application/json"})
            html = await ask(made, "list", headers={"Accept-Encoding": "zstd"})
            assert decoder("zstd")(data.body) == DATA
            assert decoder("zstd")(html.body).startswith(b"<ul><li>course-v1:edX+D0</li>")


async def test_what_is_purged_is_shown_anew(tmp_path: Path) -> None:
    async with serving(tmp_path) as (made, upstream):
        wants = {"Accept-Encoding": "br"}
        for _ in range(3):
            await ask(made, headers=wants)
        upstream.answers = [said(PROSE.replace(b"teaches", b"taught"), content_type="text/html")]
        made.running.store.purge(Purge(kind="fragment", value="shop/prose"), 0.0)
        told = [await ask(made, headers=wants) for _ in range(4)]
        assert all(b"taught" in decoder("br")(each.body) for each in told)
        assert len(upstream.asked) == 2
