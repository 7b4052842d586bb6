"""The demo's smaller services: grades of one learner, offers a page at a time, recommendations, sign-in and switchboard."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from .demo import client, create, load

pytestmark = pytest.mark.anyio


async def test_grades_are_shown_to_their_owner_alone_and_say_as_of_when() -> None:
    app = create("credentials")
    async with client(app) as nobody, client(app, user="ben") as ben, client(app, user="ada") as ada:
        assert (await nobody.get("/api/v2/grades/?username=ada")).status_code == 401
        assert (await ben.get("/api/v2/grades/?username=ada")).status_code == 403
        response = await ada.get("/api/v2/grades/?username=ada")
    data = response.json()
    assert {row["username"] for row in data["results"]} == {"ada"}
    assert data["lms_last_updated_at"] == max(row["lms_last_updated_at"] for row in data["results"])
    assert data["results"][0].keys() >= {"course_run", "letter_grade", "percent_grade", "verified"}
    assert response.headers["cache-control"].startswith("private")


async def test_a_learner_without_grades_has_an_empty_page() -> None:
    async with client(create("credentials"), user="newcomer") as http:
        data = (await http.get("/api/v2/grades/?username=newcomer")).json()
    assert (data["count"], data["results"], data["lms_last_updated_at"]) == (0, [], None)


async def test_offers_come_a_page_at_a_time() -> None:
    seen: list[int] = []
    url: str | None = "/api/v2/enterprise/offers/?page_size=4"
    async with client(create("enterprise")) as http:
        while url:
            page = (await http.get(url)).json()
            seen += [offer["id"] for offer in page["results"]]
            url = page["next"]
        assert len(set(seen)) == len(seen) == page["count"]
        assert page["previous"] is not None
        for query in ("page=99", "page=0", "page=x", "page_size=0"):
            assert (await http.get(f"/api/v2/enterprise/offers/?{query}")).status_code == 404


async def test_recommendations_name_keys_and_reasons_and_leave_the_cards_to_discovery() -> None:
    module = load("recommendations")
    catalog = {course["key"] for course in await every_course()}
    for key in ("", "HarborX+NAV101", "NorthlightX+ML201", "CivicX+LIT175", "LowlandX+CS340"):
        picks = module.picks(key)
        assert len(picks) == 4
        assert catalog >= {course for course, _ in picks} - {key}
        assert key not in {course for course, _ in picks}
    assert catalog >= {course for picks in module.NEXT.values() for course, _ in picks}
    async with client(create("recommendations")) as http:
        page = (await http.get("/for-you", params={"course_key": "HarborX+NAV101"})).text
    assert re.findall(r'name="discovery/course-card" course_key="([^"]+)"', page)[0] == "HarborX+NAV310"


async def every_course() -> list[dict[str, Any]]:
    async with client(create("discovery")) as http:
        return list((await http.get("/api/v1/courses/?page_size=100")).json()["results"])


# --- sign-in


async def sign_in(http: httpx2.AsyncClient, user: str, then: str = "/checkout/2") -> httpx2.Response:
    return await http.post("/session", data={"user": user, "next": then})


def cookies(response: httpx2.Response) -> dict[str, Any]:
    jar: dict[str, Any] = {}
    for header in response.headers.get_list("set-cookie"):
        jar |= SimpleCookie(header)
    return jar


async def test_the_two_cookies_make_one_token_that_the_published_key_verifies() -> None:
    async with client(create("site")) as http:
        response = await sign_in(http, "ada")
        keys = (await http.get("/jwks.json")).json()
    jar = cookies(response)
    front, signature = jar["edx-jwt-cookie-header-payload"], jar["edx-jwt-cookie-signature"]
    token = jwt.decode(f"{front.value}.{signature.value}", KeySet.import_key_set(keys))
    assert token.claims["preferred_username"] == "ada"
    assert token.claims["exp"] - token.claims["iat"] == 3600
    assert (bool(front["httponly"]), bool(signature["httponly"])) == (False, True)
    assert (response.status_code, response.headers["location"]) == (303, "/checkout/2")
    assert all("d" not in key for key in keys["keys"])


@pytest.mark.parametrize("user", ["", "mallory"])
async def test_nobody_and_strangers_are_signed_out(user: str) -> None:
    async with client(create("site")) as http:
        jar = cookies(await sign_in(http, user))
    assert {morsel.value for morsel in jar.values()} == {""}
    assert {morsel["max-age"] for morsel in jar.values()} == {"0"}


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ("/checkout/2?note=added&x=1", "/checkout/2?x=1"),
        ("http://127.0.0.1:8000/courses?page=2", "/courses?page=2"),
        ("//evil.example/x", "/x"),
        ("/\\evil.example", "/"),
        ("http://127.0.0.1:8000//evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/login", "/"),
        ("", "/"),
    ],
)
async def test_after_signing_in_one_is_always_back_on_this_site(sent: str, path: str) -> None:
    async with client(create("site")) as http:
        assert (await sign_in(http, "ben", sent)).headers["location"] == path


async def test_the_account_corner_knows_who_is_there() -> None:
    app = create("site")
    async with client(app, user="ada") as ada, client(app) as nobody:
        assert "<b>ada</b>" in (await ada.get("/account")).text
        assert "Sign in" in (await nobody.get("/account")).text
        assert 'value="/courses"' in (await nobody.get("/session", headers={"referer": "http://x/courses"})).text
        assert "Choose a user" in (await nobody.get("/join")).text


# --- the switchboard


@asynccontextmanager
async def control(orders: list[str], mode: str) -> AsyncIterator[int]:
    """A control port that notes what it is told."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        orders.append((await reader.readuntil(b"\r\n\r\n")).decode().partition(" HTTP/")[0])
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"mode": "%s"}' % mode.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_the_strip_shows_how_each_context_is() -> None:
    orders: list[str] = []
    async with control(orders, "silent") as port:
        app = create("site", controls={"discovery": port, "ecommerce": 1})
        async with client(app) as http:
            strip = (await http.get("/strip")).text
            opened = (await http.get("/strip", headers={"cookie": "demo-strip=open"})).text
    assert orders == ["GET /_fault", "GET /_fault"]
    assert 'discovery<span class="vh"> is silent' in strip
    assert 'ecommerce<span class="vh"> is not there' in strip
    assert re.findall(r'aria-pressed="true" aria-label="([^"]+)"', strip) == ["discovery silent"]
    assert ("<details open" in strip, '<details class="strip" open>' in opened) == (False, True)


async def test_a_button_gives_the_order_and_goes_back_to_the_page_it_was_on() -> None:
    orders: list[str] = []
    async with control(orders, "down") as port:
        app = create("site", controls={"discovery": port})
        async with client(app, headers=[("referer", "http://127.0.0.1:8000/checkout/1?note=added")]) as http:
            response = await http.post("/switchboard", data={"context": "discovery", "mode": "down"})
            for form in ({"context": "other", "mode": "down"}, {"context": "discovery", "mode": "ok&heal=1"}, {}):
                await http.post("/switchboard", data=form)
            board = await http.get("/switchboard")
    assert orders == ["POST /_fault?mode=down", "GET /_fault"]
    assert (response.status_code, response.headers["location"]) == (303, "/checkout/1")
    assert cookies(response)["demo-strip"]["max-age"] == "30"
    assert "<h1>Break something</h1>" in board.text


async def test_the_site_answers_before_it_goes_down_and_is_told_to_heal() -> None:
    orders: list[str] = []
    async with control(orders, "down") as port:
        app = create("site", controls={"site": port})
        async with client(app) as http:
            await http.post("/switchboard", data={"context": "site", "mode": "down"})
            assert orders == []
        site = app.app.routes[-1].endpoint.__self__
        async with asyncio.timeout(5):
            await site.closing
    assert orders == ["POST /_fault?mode=down&heal=20"]


async def test_the_control_ports_lie_beside_its_own_wherever_that_is() -> None:
    """The demo on other ports is its own demo: its switches move nobody else's services."""
    orders: list[str] = []
    async with control(orders, "slow") as port:
        app = create("site")
        own = port - 96  # discovery's control port, as seen from the site's own port
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://service:{own}") as http:
            await http.post("/switchboard", data={"context": "discovery", "mode": "slow"})
    assert orders == ["POST /_fault?mode=slow"]
