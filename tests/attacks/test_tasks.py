"""Task ids: nobody makes one, changes one, or uses another's."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.attacks.ground import Ground, ground, registration
from tests.gateway.proxies import said

pytestmark = pytest.mark.anyio

FORWARD = {"principal": "x-user"}
ANN = {"X-Forwarded-User": "ann"}


async def begun(here: Ground, headers: dict[str, str]) -> str:
    """The address of a task that ann has begun."""
    here.context.answers["/card"] = said(b"", "202 Accepted", location="/jobs/7")
    here.context.answers["/jobs/7"] = said(
        b'{"state": "Succeeded", "result": "/files/7"}', content_type="application/json"
    )
    here.context.answers["/files/7"] = said(b"ann's own", content_type="text/csv")
    here.context.answers["/secret"] = said(b"secret", content_type="text/plain")
    return (await here.ask("/_bff/fragments/shop/card", headers=headers)).headers["location"]


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_task_is_its_principals_alone(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(forward=FORWARD)) as here:
        place = await begun(here, ANN)
        assert (await here.ask(place + "/result", headers=ANN)).body == b"ann's own"
        asked = len(here.context.asked)
        for other in (
            {},
            {"X-Forwarded-User": "bob"},
            {"X-Forwarded-User": "ann "},
            {"X-Forwarded-User": "ANN"},
            {"X-Forwarded-User": "-"},
        ):
            spoken = {name: text for name, text in other.items() if text.strip() != "ann"} or {
                "X-Forwarded-User": "eve"
            }
            assert (await here.ask(place, headers=spoken)).status == 404
            assert (await here.ask(place + "/result", headers=spoken)).status == 404
        assert len(here.context.asked) == asked


async def test_an_id_that_was_changed_or_made_up_is_unknown_and_nobody_is_asked(tmp_path: Path) -> None:
    async with ground(tmp_path, registration()) as here:
        place = await begun(here, {})
        said_, _, mac = place.rpartition("/")[2].partition(".")
        payload = json.loads(base64.urlsafe_b64decode(said_ + "=" * (-len(said_) % 4)))
        asked = len(here.context.asked)
        forged = [
            json.dumps([payload[0], "/secret", payload[2]]).encode(), json.dumps([payload[0], payload[1], payload[2] + 1]).encode(),
            json.dumps(["shop/proxy", payload[1], payload[2]]).encode(), json.dumps([*payload, 1]).encode(), b"[]", b"null", b"\xff", b"",
        ]  # fmt: skip
        ids = [
            *(f"{encoded(each)}.{mac}" for each in forged), said_, f"{said_}.", f".{mac}", f"{said_}.{mac[:-1]}", f"{said_}.{mac}A",
            f"{said_}.{encoded(b'')}", f"{said_}.{mac}.{mac}", f"{said_}={mac}", f"{said_}.{mac}=", "..", "%2e%2e", "x" * 4000,
            f"{said_}.{mac.swapcase()}", f"{said_}%00.{mac}", "undefined",
        ]  # fmt: skip
        for each in ids:
            for end in ("", "/result"):
                assert (await here.ask(f"/_bff/tasks/{each}{end}")).status in (404, 414), each
        assert len(here.context.asked) == asked


async def test_a_result_is_a_document_without_our_origin(tmp_path: Path) -> None:
    async with ground(tmp_path, registration()) as here:
        place = await begun(here, {})
        here.context.answers["/files/7"] = said(
            b"<script>alert(1)</script>", content_type="text/html", set_cookie="a=b", refresh="0;url=//evil"
        )
        answer = await here.ask(place + "/result")
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not {"set-cookie", "refresh"} & set(answer.names)


async def test_what_begins_work_is_begun_by_nobody_elses_page_and_by_no_prefetch(tmp_path: Path) -> None:
    fragments = {"card": {"path": "/card", "starts_task": True}}
    slot = '<bff-fragment name="shop/card" load="click"></bff-fragment>'
    async with ground(tmp_path, registration(slot, fragments)) as here:
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "https://evil.example"},
            {"Sec-Purpose": "prefetch"},
        ):
            assert (await here.ask("/_bff/fragments/shop/card", headers=headers)).status in (403, 503)
        await here.page()
        assert (await here.ask("/_bff/live?fragment=shop/card")).status == 400
        assert here.context.asked == []
