"""A gateway that must leave while pages have time left: each document ends, with what there is."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.attacks.ground import ground, registration
from tests.fakes import PATIENCE, until

pytestmark = pytest.mark.anyio

LONG = {"deadline": "30s"}
SLOW = {"card": {"path": "/card", "policy": {"timeout": {"first_byte": "10s", "total": "10s"}}}}
SLOT = '<bff-fragment name="shop/card"></bff-fragment>'
HTML = {"Accept": "text/html"}


@pytest.mark.parametrize("target", ["/page", "/page?_bff=ordered"])
async def test_a_page_ends_well_formed_though_its_deadline_is_behind_the_drains_end(
    tmp_path: Path, target: str
) -> None:
    async with ground(tmp_path, registration(SLOT, SLOW, LONG), drain=0.4) as here:
        here.context.gate.clear()
        page = asyncio.ensure_future(here.ask(target, headers=HTML))
        await until(lambda: bool(here.context.asked), "the context to be asked")
        await here.server.server.leave()
        answer = await asyncio.wait_for(page, PATIENCE)
        assert answer.status == 200
        assert answer.body.endswith(b"</body></html>\n")
        assert b' state="loading"' not in answer.body or b"<template for=" in answer.body


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_programs_get_the_whole_of_it_too(tmp_path: Path, accept: str) -> None:
    async with ground(tmp_path, registration(SLOT, SLOW, LONG), drain=0.4) as here:
        here.context.gate.clear()
        page = asyncio.ensure_future(here.ask(headers={"Accept": accept}))
        await until(lambda: bool(here.context.asked), "the context to be asked")
        await here.server.server.leave()
        lines = (await asyncio.wait_for(page, PATIENCE)).body.decode().splitlines()
        last = json.loads(lines[-1])
        slots = last["slots"].values() if accept == "application/json" else [json.loads(line) for line in lines[1:-1]]
        assert [(slot["outcome"], slot["reason"]) for slot in slots] == [("pending", "timeout")]
        assert "ms" in last


async def test_a_page_without_its_primary_becomes_its_error_page_at_once(tmp_path: Path) -> None:
    slots = '<bff-fragment name="shop/card" primary></bff-fragment>'
    shop = registration(slots, SLOW, LONG | {"error": "pages/error.html"})
    (tmp_path / "fragments" / "shop" / "pages").mkdir(parents=True)
    error = tmp_path / "fragments" / "shop" / "pages" / "error.html"
    error.write_text(f"<!doctype html><html><head><title>E</title></head><body>{SLOT}</body></html>")
    async with ground(tmp_path, shop, drain=0.4) as here:
        here.context.gate.clear()
        page = asyncio.ensure_future(here.ask(headers=HTML))
        await until(lambda: bool(here.context.asked), "the context to be asked")
        await here.server.server.leave()
        answer = await asyncio.wait_for(page, PATIENCE)
        assert answer.status == 504
        assert answer.body.rstrip().endswith(b"</body></html>")


async def test_who_has_little_time_is_not_hurried_before_the_end(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(SLOT, SLOW, LONG)) as here:  # a drain of twenty seconds
        here.context.gate.clear()
        page = asyncio.ensure_future(here.ask(headers=HTML))
        await until(lambda: bool(here.context.asked), "the context to be asked")
        leaving = asyncio.ensure_future(here.server.server.leave())
        await until(lambda: here.gateway.drain.draining, "the drain")
        here.context.gate.set()
        assert b"<p>card</p>" in (await asyncio.wait_for(page, PATIENCE)).body
        await asyncio.wait_for(leaving, PATIENCE)
