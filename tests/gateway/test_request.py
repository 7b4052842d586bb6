import re

import pytest

from bff.gateway.request import Locales, accepts_html, crawler, form, ids, ordered, picked


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (b"", "html"),
        (b"*/*", "html"),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html"),
        (b"application/x-ndjson", "ndjson"),
        (b"application/json", "json"),
        (b"application/json, text/html;q=0.5", "json"),
        (b"application/json;q=0.5, text/html", "html"),
        (b"application/json, application/x-ndjson", "ndjson"),
        (b"application/json;q=x", "html"),
        (b"application/problem+json", "html"),
        (b"APPLICATION/JSON;charset=utf-8;q=0.3", "json"),
        (b"text/html, application/json", "html"),
        (b"application/json, text/plain, */*", "json"),
        (b"application/json;q=0.5, */*;q=0.8", "html"),
        (b"application/x-ndjson, application/json;q=0.9, */*;q=0.1", "ndjson"),
        (b"application/json;q=0", "html"),
        (b"application/json;q=0, application/x-ndjson;q=0.1", "ndjson"),
        (b"application/json;q=nan", "html"),
        (b"application/json;q=7, application/x-ndjson;q=0.1", "ndjson"),
    ],
)
def test_the_preferred_form(accept: bytes, wanted: str) -> None:
    assert form(accept) == wanted


def test_what_must_stand_in_order() -> None:
    assert ordered({}, b"_bff=ordered")
    assert ordered({}, b"a=1&_bff=ordered")
    assert not ordered({}, b"x_bff=ordered")
    assert ordered({b"hx-request": b"true"}, b"")
    assert ordered({b"turbo-frame": b"x"}, b"")
    assert ordered({b"x-up-target": b".x"}, b"")
    assert ordered({b"x-turbo-request-id": b"1"}, b"")
    assert ordered({b"user-agent": b"Mozilla/5.0 (compatible; Googlebot/2.1)"}, b"")
    assert not ordered({b"user-agent": b"Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0"}, b"")


def test_crawlers_and_text_browsers() -> None:
    assert all(map(crawler, [b"bingbot/2.0", b"Lynx/2.9", b"w3m/0.5", b"facebookexternalhit/1.1"]))
    others = (
        "Google-InspectionTool/1.0;",
        "Mediapartners-Google",
        "meta-externalagent/1.1",
        "Mozilla/5.0 (compatible; Yeti/1.1;",
    )
    assert all(crawler(each.encode()) for each in others)
    firefox = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    phone = b"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 Mobile Safari/537.36 GoogleApp/16"
    assert not any(map(crawler, [firefox, phone]))


def test_ids_are_fresh_unless_a_trusted_proxy_brings_them() -> None:
    found = {b"x-request-id": b"abc-1", b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"}
    one, two = ids(found, trusted=False), ids({}, trusted=False)
    assert one.request != "abc-1"
    assert len({one.nonce, two.nonce, one.suffix, two.suffix, one.request, two.request}) == 6
    assert re.fullmatch(r"[0-9a-f]{32}", one.nonce)
    assert re.fullmatch(r"[0-9a-z]{6,}", one.suffix)
    trusted = ids(found, trusted=True)
    assert trusted.request == "abc-1"
    assert b"traceparent: 00-" + b"a" * 32 in trusted.trace
    assert b"b" * 16 not in trusted.trace, "our own span is the parent of what we ask"
    assert re.fullmatch(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01\r\nx-request-id: [0-9a-f]{16}\r\n", one.trace)


@pytest.mark.parametrize("text", [b"a\r\nb", b"", b"x" * 129, b"a b"])
def test_a_bad_request_id_is_replaced(text: bytes) -> None:
    made = ids({b"x-request-id": text, b"traceparent": b"junk"}, trusted=True)
    assert re.fullmatch(r"[0-9a-f]{16}", made.request)


def test_locales_are_negotiated() -> None:
    locales = Locales(["en", "es", "pt-BR"])
    assert locales.negotiate(b"es-MX,es;q=0.9,en;q=0.8") == "es"
    assert locales.negotiate(b"pt-br") == "pt-BR"
    assert locales.negotiate(b"en;q=0.1, es;q=0.5") == "es"
    assert locales.negotiate(b"en; q=0.1 , es ; q=0.5") == "es"  # with spaces, as RFC 9110 §12.4.2 has it
    assert locales.negotiate(b"fr; q=0.9, es; q=0.5") == "es"
    assert locales.negotiate(b"fr, de") == "en"
    assert locales.negotiate(b"es;q=0, fr;q=x") == "en"
    assert locales.negotiate(b"") == "en"


def test_without_locales_the_header_passes_lower_cased() -> None:
    assert Locales([]).negotiate(b" fr-CA,FR;q=0.8 ") == "fr-ca,fr;q=0.8"


def test_the_headers_that_decide() -> None:
    assert picked([(b"accept", b"a"), (b"x-other", b"b"), (b"accept", b"c")]) == {b"accept": b"c"}


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (None, True),
        (b"text/html", True),
        (b"*/*", True),
        (b"TEXT/*;q=0.1", True),
        (b"application/json", False),
        (b"image/png", False),
        (b"application/problem+json, text/html;q=0", False),
        (b"text/html;q=0, */*", False),
        (b"*/*;q=0", False),
    ],
)
def test_who_takes_html_for_an_error(accept: bytes | None, html: bool) -> None:
    headers = [] if accept is None else [(b"accept", accept)]
    assert accepts_html({"headers": headers}) is html
