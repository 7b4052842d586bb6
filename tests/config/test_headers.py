"""`bff.config.headers`: what may be asked for, and what is the gateway's own."""

from __future__ import annotations

import pytest

from bff.config.headers import forbidden_header, principal_header


@pytest.mark.parametrize("name", ["accept-language", "authorization", "x-csrftoken", "user-agent", "x-user"])
def test_what_may_be_forwarded(name: str) -> None:
    assert forbidden_header(name, identity="x-forwarded-user") == ""


@pytest.mark.parametrize(
    "name",
    [
        "cookie",
        "*",
        "bff-deadline",
        "forwarded",
        "x-forwarded-for",
        "x-request-id",
        "traceparent",
        "connection",
        "te",
        "host",
        "range",
        "id",
    ],
)
def test_what_may_not(name: str) -> None:
    assert "; " in forbidden_header(name, identity="id")


def test_proxy_routes_pass_conditional_headers_anyway() -> None:
    assert forbidden_header("if-none-match", proxy=True) == ""
    assert forbidden_header("transfer-encoding", proxy=True)


@pytest.mark.parametrize(
    ("name", "headers", "allowed"),
    [
        ("x-user", (), True),
        ("x-user", ("x-user",), False),
        ("x-user", ("*",), False),
        ("authorization", (), False),
        ("x-forwarded-user", (), True),
        ("x-forwarded-host", (), False),
    ],
)
def test_where_the_principal_may_be_sent(name: str, headers: tuple[str, ...], allowed: bool) -> None:
    assert (principal_header(name, headers, identity="x-forwarded-user") == "") == allowed
