import json
from typing import Any

import pytest

from bff.errors import TemplateSlow
from bff.markup.check import Checker
from bff.model import Fragment, Ref
from bff.rules import keys
from bff.upstream.sources import paged
from bff.upstream.sources.content import SLOW, Content, Source, Unreadable
from bff.upstream.sources.html import HtmlSource
from bff.upstream.sources.json import JsonSource
from tests.build import fragment, int_param

JSON, HTML = {b"content-type": b"application/json"}, {b"content-type": b"text/html"}
SECOND = "/_bff/fragments/shop/offers?page=2"


def listed(paginate: Any, source: str = "json", **more: Any) -> Fragment:
    param = int_param("page", required=False, default=("1",))
    query = (("page", (Ref("param", "page"),)),)
    return fragment(
        "shop/offers", path=("/o",), params={"page": param}, query=query, paginate=paginate, source=source, **more
    )


def read(made: Fragment, body: bytes, found: dict[bytes, bytes], page: str = "1") -> Content | Unreadable:
    source: Source = JsonSource(Checker()) if made.source == "json" else HtmlSource(Checker())
    values: keys.Values = {"page": (page,)}
    content = paged.read(source, made, found, body, values=values, params={"page": int(page)}, head=False)
    while callable(content):
        content = content()
    return content


def test_drfs_envelope_holds_the_gateways_addresses() -> None:
    data = {"count": 9, "next": "http://10.0.0.1/o?page=3", "previous": "http://10.0.0.1/o", "results": ["é"]}
    content = read(listed("drf"), json.dumps(data).encode(), JSON, "2")
    assert isinstance(content, Content)
    assert content.data is not None
    assert content.next == "/_bff/fragments/shop/offers?page=3"
    first = "/_bff/fragments/shop/offers"
    assert json.loads(content.data) == data | {"next": content.next, "previous": first}


def test_the_last_page_has_no_next() -> None:
    content = read(listed("drf"), b'{"next": null, "previous": null, "results": []}', JSON)
    assert content == Content(data=b'{"next":null,"previous":null,"results":[]}')


def test_a_page_that_no_parameter_names_is_none() -> None:
    content = read(listed("drf"), b'{"next": "http://10.0.0.1/o?cursor=x", "results": []}', JSON)
    assert content == Content(data=b'{"next":null,"results":[]}')


def test_fields_of_its_own() -> None:
    made = listed({"items": "data.rows", "next": "meta.links.next"})
    body = b'{"data": {"rows": []}, "meta": {"links": {"next": "/o?page=2", "last": "/o?page=9"}}}'
    content = read(made, body, JSON)
    assert isinstance(content, Content)
    assert content.data is not None
    assert content.next == SECOND
    assert json.loads(content.data)["meta"]["links"] == {"next": SECOND, "last": "/o?page=9"}
    for other in (b'{"meta": []}', b'{"meta": {"links": {}}}', b"[]"):
        assert read(made, other, JSON) == Content(data=other.replace(b" ", b""))


@pytest.mark.parametrize(("source", "body", "found"), [("html", b"<p>x</p>", HTML), ("json", b'{"a": 1}', JSON)])
def test_a_link_header_for_either(source: str, body: bytes, found: dict[bytes, bytes]) -> None:
    content = read(listed("link", source), body, found | {b"link": b'<http://10.0.0.1/o?page=2>; rel="next"'})
    assert isinstance(content, Content)
    assert content.next == SECOND
    assert content.data == (body if source == "json" else None)


def test_a_template_sees_the_gateways_address() -> None:
    made = listed("drf", template=lambda data, params, meta, _: str(data["next"]))
    content = read(made, b'{"next": "/o?page=2"}', JSON)
    assert isinstance(content, Content)
    assert content.markup is not None
    assert content.markup.flat == SECOND.encode()


def test_what_is_no_json_is_the_sources_to_say() -> None:
    for body in (b"{", b"[" * 100_000):
        assert isinstance(read(listed("drf"), body, JSON), Unreadable)


def test_long_answers_are_read_elsewhere() -> None:
    source = JsonSource(Checker())
    body = json.dumps({"next": "/o?page=2", "results": ["x" * SLOW]}).encode()
    work = paged.read(source, listed("drf"), JSON, body, values={"page": ("1",)}, params={"page": 1}, head=False)
    assert callable(work)
    content = work()
    assert isinstance(content, Content)
    assert content.next == SECOND


def test_a_slow_template_leaves_the_loop_with_its_address() -> None:
    def slow(data: Any, params: object, meta: object, within: float) -> str:
        if within < 1:
            raise TemplateSlow
        return str(data["next"])

    source = JsonSource(Checker(), render=2.0)
    made = listed("drf", template=slow)
    work = paged.read(source, made, JSON, b'{"next": "?page=2"}', values={"page": ("1",)}, params={}, head=False)
    assert callable(work)
    content = work()
    assert isinstance(content, Content)
    assert content.markup is not None
    assert (content.next, content.markup.flat) == (SECOND, SECOND.encode())


def test_what_is_no_list_is_read_as_ever() -> None:
    content = read(fragment("shop/offers", source="json"), b'{"next": "/o?page=2"}', JSON)
    assert content == Content(data=b'{"next": "/o?page=2"}')
