"""Signed events over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bff.events.signature import sign
from bff.gateway.webhook import LARGEST, Webhook, read_body
from tests.events.telling import CATALOG, NOW, Notes, attributes

pytestmark = pytest.mark.anyio

STRUCTURED = {"content-type": "application/cloudevents+json"}
TOLD = {"specversion": "1.0", "type": CATALOG, "id": "1", "source": "/studio"}
BODY = json.dumps(TOLD | {"data": {"catalog_info": {"course_key": "A+1"}}}).encode()


@asynccontextmanager
async def hook(notes: Notes, secret: str = "hush") -> AsyncIterator[httpx2.AsyncClient]:
    webhook = Webhook(notes.consumer, secret, wall=lambda: NOW)

    async def answer(request: Request) -> Response:
        answered = await webhook.answer(request)
        return Response(answered.body, answered.status, {k.decode(): v.decode() for k, v in answered.headers})

    app = Starlette(routes=[Route("/_bff/events", answer, methods=["GET", "POST"])])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://bff.example") as client:
        yield client


def signed(body: bytes = BODY, *, secret: str = "hush", time: float = NOW) -> dict[str, str]:
    return STRUCTURED | {"bff-signature": f"t={time:.0f},v1={sign(f'{time:.0f}', body, secret)}"}


async def test_a_signed_event_is_acted_on() -> None:
    async with hook(notes := Notes()) as client:
        answer = await client.post("/_bff/events", content=BODY, headers=signed())
    assert answer.status_code == 202
    assert answer.content == b""
    assert notes.tags == ["course:A+1"]


async def test_told_again_it_does_nothing_more() -> None:
    async with hook(notes := Notes()) as client:
        for _ in range(3):
            assert (await client.post("/_bff/events", content=BODY, headers=signed())).status_code == 202
    assert notes.tags == ["course:A+1"]
    assert notes.counted[CATALOG, "duplicate"] == 2


async def test_binary_mode_with_avro() -> None:
    told, body = attributes(0)
    headers = {f"ce-{name}": value for name, value in told.items()} | {"content-type": "application/avro"}
    async with hook(notes := Notes()) as client:
        answer = await client.post("/_bff/events", content=body, headers=signed(body) | headers)
    assert answer.status_code == 202
    assert notes.tags == ["course:course-v1:HarborX+NAV101+R1"]


@pytest.mark.parametrize(
    "headers",
    [
        STRUCTURED,
        signed(secret="guessed"),
        signed(time=NOW - 301),
        signed(BODY + b" "),
        STRUCTURED | {"bff-signature": "é"},
    ],
    ids=["none", "guessed", "old", "tampered", "nonsense"],
)
async def test_without_a_valid_signature_nobody_is_heard(headers: dict[str, str]) -> None:
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    async with hook(notes := Notes()) as client:
        answer = await client.post("/_bff/events", content=BODY, headers=sent)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert not notes.purges
    assert notes.counted == {("", "refused"): 1}


async def test_a_signature_of_nonsense_is_400() -> None:
    async with hook(notes := Notes()) as client:
        answer = await client.post("/_bff/events", content=b"{}", headers=signed(b"{}"))
    assert answer.status_code == 400
    assert notes.said("event-poison")


async def test_what_fails_may_be_told_again() -> None:
    async with hook(notes := Notes()) as client:
        notes.broken = True
        answer = await client.post("/_bff/events", content=BODY, headers=signed())
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        notes.broken = False
        assert (await client.post("/_bff/events", content=BODY, headers=signed())).status_code == 202


async def test_a_body_has_an_end() -> None:
    body = b" " * (LARGEST + 1)
    async with hook(Notes()) as client:
        assert (await client.post("/_bff/events", content=body, headers=signed(body))).status_code == 413


async def test_who_goes_before_the_end_has_said_nothing() -> None:
    messages: list[dict[str, object]] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    assert await read_body(Request({"type": "http", "headers": []}, receive), 10) is None


async def test_other_methods_and_no_secret() -> None:
    async with hook(Notes()) as client:
        answer = await client.get("/_bff/events")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    async with hook(Notes(), secret="") as client:
        for headers in (signed(secret=""), signed()):
            assert (await client.post("/_bff/events", content=BODY, headers=headers)).status_code == 404
