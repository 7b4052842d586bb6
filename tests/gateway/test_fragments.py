import asyncio
import json
from typing import Any

import pytest

from bff.config.compile import compile_param
from bff.gateway import fragments as endpoint
from bff.gateway.problems import Answer
from bff.model import Forward, Fragment, Reason, Ref
from tests.build import World, fragment, int_param, text_param

pytestmark = pytest.mark.anyio

KEEP = {"cache.fresh": "10s", "cache.stale_if_error": "1m"}


class Asked:
    """One request to the endpoint: begun, then answered by the test."""

    def __init__(
        self, world: World, made: Fragment, query: str = "", principal: str | None = None, **headers: str
    ) -> None:
        self.gone: list[Any] = []
        fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        self._scope = {"headers": fields}
        self._world = world
        self.call = endpoint.call_for(world.planner, made, query, principal)
        visit = world.visit(principal, **headers)
        self.task = asyncio.ensure_future(endpoint.resolved(world.resolver, self.call, visit, self.gone.append))

    async def answer(self) -> Answer:
        return endpoint.answer(self.call, await self.task, self._world.planner, self._scope)


async def asked(world: World, made: Fragment, query: str = "", principal: str | None = None, **headers: str) -> Asked:
    request = Asked(world, made, query, principal, **headers)
    await asyncio.sleep(0)
    return request


CARD = fragment("shop/card", layer=KEEP, params={"n": int_param("n")})


async def test_one_fragment_without_wrapper_or_nonce() -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply(b"<p>x</p><script>1</script>")
    answer = await request.answer()
    assert (answer.status, answer.body) == (200, b"<p>x</p><script>1</script>")
    head = dict(answer.headers)
    assert head[b"bff-outcome"] == b"fresh"
    assert head[b"cache-control"] == b"public, max-age=10"
    assert head[b"cache-status"] == b"bff; fwd=uri-miss; stored"
    assert head[b"vary"] == b"Accept, Accept-Encoding, Turbo-Frame"
    world.loop.advance(4)
    answer = await (await asked(world, CARD, "n=1")).answer()
    head = dict(answer.headers)
    assert head[b"cache-control"] == b"public, max-age=6"
    assert head[b"age"] == b"4"
    assert head[b"cache-status"] == b"bff; hit; ttl=6"
    etag = head[b"etag"].decode()
    for stated in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
        answer = await (await asked(world, CARD, "n=1", if_none_match=stated)).answer()
        assert (answer.status, answer.body) == (304, b"")
    answer = await (await asked(world, CARD, "n=1", if_none_match='"x"')).answer()
    assert answer.status == 200


@pytest.mark.parametrize("query", ["", "n=x", "n=1&n=2", "n=1&other=2", "user=ada&n=1"])
async def test_bad_undeclared_or_repeated_parameters_are_400(query: str) -> None:
    world = World(fragments={"shop/card": CARD})
    with pytest.raises(endpoint.BadParameters) as error:
        Asked(world, CARD, query)
    assert endpoint.fault(error.value).status == 400


@pytest.mark.parametrize("query", ["q=%FF", "q=a&%FF=1"])
async def test_what_is_no_utf_8_is_no_parameter(query: str) -> None:
    made = fragment("shop/found", params={"q": compile_param("q")}, query=(("q", (Ref("param", "q"),)),))
    world = World(fragments={"shop/found": made})
    with pytest.raises(endpoint.BadParameters) as error:
        Asked(world, made, query)
    assert endpoint.fault(error.value).status == 400


async def test_what_the_gateway_fills_in_is_never_a_clients() -> None:
    made = fragment("shop/mine", params={"user": text_param("user", principal=True)})
    world = World(fragments={"shop/mine": made})
    with pytest.raises(endpoint.BadParameters):
        Asked(world, made, "user=bob", "ada")
    with pytest.raises(PermissionError) as error:
        Asked(world, made)
    refused = endpoint.fault(error.value)
    assert (refused.status, dict(refused.headers)[b"cache-status"]) == (401, b"bff; detail=auth")
    request = await asked(world, made, "", "ada")
    world.upstreams.to("/mine/ada").reply()
    head = dict((await request.answer()).headers)
    assert head[b"cache-control"] == b"private, no-cache"


@pytest.mark.parametrize(
    "headers",
    [
        {"cache-control": "private, max-age=60"},
        {"cache-control": "no-store"},
        {"cache-control": "max-age=60", "set-cookie": "a=b"},
        {"cache-control": "max-age=60", "vary": "*"},
    ],
)
async def test_what_may_not_be_shared_is_not_called_public(headers: dict[str, Any]) -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply(b"<p>x</p>", **headers)
    head = dict((await request.answer()).headers)
    assert (head[b"bff-outcome"], head[b"cache-control"]) == (b"fresh", b"private, no-cache")


async def test_stale_and_fallback_are_200() -> None:
    made = fragment("shop/card", layer=KEEP, fallback_html=b"<p>sorry</p>")
    world = World(fragments={"shop/card": made})
    request = await asked(world, made)
    world.upstreams.to("/card").fail()
    answer = await request.answer()
    assert (answer.status, answer.body) == (200, b"<p>sorry</p>")
    assert dict(answer.headers)[b"cache-status"] == b"bff; fwd=uri-miss; detail=fallback"
    request = await asked(world, made)
    world.upstreams.to("/card").reply()
    await request.answer()
    world.loop.advance(47)
    request = await asked(world, made)
    world.upstreams.to("/card").fail()
    answer = await request.answer()
    head = dict(answer.headers)
    assert (answer.status, head[b"bff-outcome"]) == (200, b"stale")
    assert head[b"cache-status"] == b"bff; hit; ttl=-37; detail=stale-error"
    assert head[b"cache-control"] == b"public, max-age=0"


async def test_a_copy_past_its_time_was_not_missed() -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply()
    await request.answer()
    world.loop.advance(10.25)
    request, beside = await asked(world, CARD, "n=1"), await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply()
    answers = [dict((await each.answer()).headers)[b"cache-status"] for each in (request, beside)]
    assert answers == [b"bff; fwd=stale; stored", b"bff; fwd=stale; collapsed"]
    world.loop.advance(10.25)
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").fail()
    late = dict((await request.answer()).headers)[b"cache-status"]
    assert late == b"bff; hit; ttl=-1; detail=stale-error"  # a quarter of a second, and it is stale


async def test_all_that_is_keyed_is_varied_on() -> None:
    made = fragment("shop/mine", forward=Forward(headers=("x-flavor",), cookies=("sessionid",)))
    world = World(fragments={"shop/mine": made})
    request = await asked(world, made, "", "ada")
    world.upstreams.to("/mine").reply()
    head = dict((await request.answer()).headers)
    assert head[b"vary"] == b"Accept, Accept-Encoding, Turbo-Frame, x-flavor, Cookie"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_the_upstreams_own_refusals_pass(status: int) -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply(status=status)
    assert (await request.answer()).status == status


async def test_a_kept_404_says_that_it_is_kept() -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply(status=404)
    assert dict((await request.answer()).headers)[b"cache-status"] == b"bff; fwd=uri-miss; stored"
    world.loop.advance(2)
    head = dict((await (await asked(world, CARD, "n=1")).answer()).headers)
    assert (head[b"cache-status"], head[b"age"]) == (b"bff; hit; ttl=3", b"2")


@pytest.mark.parametrize(
    ("reason", "status"), [(Reason.CONNECT, 502), (Reason.TIMEOUT, 504), (Reason.CONCURRENCY, 503), (Reason.TORN, 502)]
)
async def test_nothing_to_give(reason: Reason, status: int) -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").fail(reason)
    answer = await request.answer()
    assert answer.status == status
    assert (b"retry-after" in dict(answer.headers)) is (status == 503)
    asked_for = b"; fwd=uri-miss" if status != 503 else b""
    assert dict(answer.headers)[b"cache-status"] == b"bff%b; detail=%b" % (asked_for, reason.value.encode())
    assert [name for name, _ in answer.headers].count(b"x-content-type-options") == 1
    assert json.loads(answer.body)["status"] == status


async def test_json_for_programs_html_for_browsers() -> None:
    made = fragment(
        "shop/j", source="json", layer=KEEP, template=lambda data, params, meta, within: f"<p>{data['x']}</p>"
    )
    world = World(fragments={"shop/j": made})
    request = await asked(world, made, accept="application/json")
    world.upstreams.to("/j").reply(b'{"x": 1}', kind=b"application/json")
    answer = await request.answer()
    assert answer.body == b'{"x": 1}'
    assert dict(answer.headers)[b"content-type"] == b"application/json"
    answer = await (await asked(world, made)).answer()
    assert answer.body == b"<p>1</p>"


async def test_json_without_a_template_is_json_for_all() -> None:
    made = fragment("shop/j", source="json", layer=KEEP)
    world = World(fragments={"shop/j": made})
    request = await asked(world, made)
    world.upstreams.to("/j").reply(b"[]", kind=b"application/vnd.api+json")
    answer = await request.answer()
    assert answer.body == b"[]"


async def test_vary_names_every_keyed_header() -> None:
    made = fragment("shop/card", layer=KEEP, forward=Forward(headers=("accept-language", "x-a")))
    world = World(fragments={"shop/card": made})
    request = await asked(world, made)
    world.upstreams.to("/card").reply()
    assert (
        dict((await request.answer()).headers)[b"vary"] == b"Accept, Accept-Encoding, Turbo-Frame, accept-language, x-a"
    )


async def test_embedded_fragments_are_left_to_the_browser() -> None:
    outer = fragment("shop/outer", embeds=("shop/card",))
    world = World(fragments={"shop/outer": outer, "shop/card": CARD})
    request = await asked(world, outer)
    world.upstreams.to("/outer").reply(b'<bff-fragment name="shop/card" n="1">wait</bff-fragment>')
    body = (await request.answer()).body
    assert b'state="pending" src="/_bff/fragments/shop/card?n=1">wait</bff-fragment>' in body


async def test_the_fetch_ends_with_the_browser_where_it_is_of_no_use() -> None:
    made = fragment("shop/off", layer={"cache.mode": "off"})
    world = World(fragments={"shop/off": made})
    request = await asked(world, made)
    request.gone[0]()
    with pytest.raises(asyncio.CancelledError):
        await request.task
    assert world.upstreams.flown[0].cancelled


async def test_revalidated_says_so() -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply(etag='"a"')
    await request.answer()
    world.loop.advance(12)
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply(b"", 304)
    assert dict((await request.answer()).headers)[b"cache-status"] == b"bff; fwd=stale; fwd-status=304; stored"


async def test_no_content_is_empty_html() -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1")
    world.upstreams.to("/card/1").reply(b"", 204)
    answer = await request.answer()
    assert (answer.status, answer.body) == (200, b"")


async def test_a_sandboxed_fragment_says_so() -> None:
    made = fragment("shop/card", trust="sandboxed")
    world = World(fragments={"shop/card": made})
    request = await asked(world, made)
    world.upstreams.to("/card").reply()
    assert dict((await request.answer()).headers)[b"content-security-policy"] == b"sandbox allow-scripts"


@pytest.mark.parametrize(
    ("frame", "body"),
    [
        ("card-1", b'<turbo-frame id="card-1"><p>x</p></turbo-frame>'),
        ('x"><script>', b"<p>x</p>"),
        ("", b"<p>x</p>"),
    ],
)
async def test_turbo_gets_the_frame_it_asked_for(frame: str, body: bytes) -> None:
    world = World(fragments={"shop/card": CARD})
    request = await asked(world, CARD, "n=1", turbo_frame=frame)
    world.upstreams.to("/card/1").reply(b"<p>x</p>")
    answer = await request.answer()
    assert answer.body == body
    assert int(dict(answer.headers)[b"content-length"]) == len(body)
    plain = await (await asked(world, CARD, "n=1")).answer()
    assert (dict(answer.headers)[b"etag"] == dict(plain.headers)[b"etag"]) is (body == plain.body)
