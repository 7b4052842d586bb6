from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.model import Fragment, Ref
from bff.rules import keys, pages
from tests.build import fragment, int_param, text_param


def listed(**more: Any) -> Fragment:
    """A list by `page` and `size` (sent as page_size), filtered by subjects, below a catalogue."""
    return fragment(
        "shop/offers",
        path=("/c/", Ref("param", "catalog"), "/"),
        query=(
            ("page", ("", Ref("param", "page"), "")),
            ("page_size", (Ref("param", "size"),)),
            ("subject", (Ref("param", "subject"),)),
            ("order", ("-", Ref("param", "order"))),
        ),
        params={
            "catalog": text_param("catalog"),
            "page": int_param("page", required=False, default=("1",)),
            "size": int_param("size", required=False, default=("10",)),
            "subject": text_param("subject", required=False, many=True),
            "order": text_param("order", required=False, default=("end",)),
        },
        paginate="drf",
        **more,
    )


OFFERS = listed()


def values(made: Fragment = OFFERS, **texts: str) -> keys.Values:
    found = keys.values(made.params, {"catalog": ["7"], **{name: [text] for name, text in texts.items()}})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("http://10.0.0.1:9104/c/7/?page=2", "?catalog=7&page=2"),
        ("/c/7/?page=2&page_size=10", "?catalog=7&page=2"),
        ("?page=2&page_size=25&subject=a&subject=b", "?catalog=7&page=2&size=25&subject=a&subject=b"),
        ("?page=2&order=-start&utm=x", "?catalog=7&page=2"),
        ("?page=2&page=3", ""),
        ("?page=two", ""),
        ("?page=1", ""),
        ("?", ""),
        ("", ""),
        ("http://[", ""),
        ("?" + "&".join(f"page={n}" for n in range(200)), ""),
    ],
)
def test_a_url_is_read_back_into_declared_parameters(stated: str, expected: str) -> None:
    found = pages.onward(OFFERS, values(), stated)
    assert found == ("/_bff/fragments/shop/offers" + expected if expected else "")


def test_what_the_url_leaves_out_has_its_default() -> None:
    assert pages.onward(OFFERS, values(page="2", subject="a"), "/c/7/?subject=a") == (
        "/_bff/fragments/shop/offers?catalog=7&subject=a"
    )


def test_what_has_no_default_or_is_not_carried_stays() -> None:
    made = fragment(
        "shop/log",
        path=("/log",),
        query=(("cursor", (Ref("param", "cursor"),)), ("who", (Ref("param", "who"),))),
        params={"cursor": text_param("cursor", required=False, default=("",)), "who": text_param("who")},
    )
    found = keys.values(made.params, {"who": ["ada"]})
    assert found is not None
    assert pages.onward(made, found, "/log?cursor=cD0y") == "/_bff/fragments/shop/log?cursor=cD0y&who=ada"


def test_what_the_gateway_fills_in_is_never_in_an_address() -> None:
    made = fragment(
        "shop/mine",
        path=("/m",),
        query=(("page", (Ref("param", "page"),)), ("user", (Ref("param", "user"),))),
        params={
            "page": int_param("page", required=False, default=("1",)),
            "user": text_param("user", principal=True),
        },
    )
    found = keys.values(made.params, {"user": ["ada"]})
    assert found is not None
    assert pages.onward(made, found, "/m?page=2&user=ada") == "/_bff/fragments/shop/mine?page=2"


@pytest.mark.parametrize("stated", [None, 3, True, {"page": 2}, ["?page=2"]])
def test_what_is_no_url_leads_nowhere(stated: object) -> None:
    assert pages.onward(OFFERS, values(), stated) == ""


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ('</c?page=2>; rel="next"', "/c?page=2"),
        ('</c?page=1>; rel="prev", </c?page=3>; rel="next"', "/c?page=3"),
        ("</a>;rel=next;title=x", "/a"),
        ('</a>; title="rel=next"; rel=prev, </b,c>; rel="last NEXT"', "/b,c"),
        ("</a>; rel=nextish", ""),
        ("</a>", ""),
        ("", ""),
    ],
)
def test_link_headers(value: str, target: str) -> None:
    assert pages.linked(value) == target


@given(st.text())
def test_any_text_is_a_link_header_or_none(value: str) -> None:
    pages.linked(value)
    found = pages.onward(OFFERS, values(), value)
    assert found == "" or found.startswith("/_bff/fragments/shop/offers?")
