"""Every input that once was of interest, again; and new ones, made of it and of what each grammar is made of.

`make fuzz` looks for longer. What it finds goes into tests/corpus/<target>/ with the change that mends it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "corpus"
EXAMPLES = int(os.environ.get("FUZZ", "60"))
"""Inputs made up for each target."""
SEEDS = {name: sorted((CORPUS / name).iterdir()) for name in TARGETS}

WORDS = {
    "answers": [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 x\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 304 x\r\n", b"\r\n", b"\n",
        b"\r", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 99999\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n",
        b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"5;x=y\r\n", b"hello", b"X: y\r\n", b"X: a\r\n b\r\n", b"Set-Cookie: a=b\r\n", b"Connection: close\r\n",
        b"Content-Encoding: gzip\r\n", b"fffffffff\r\n", b"\0", b"\xff", b":", b" ", b"\t", b"X" * 2100, b"x" * 5000,
    ],
    "registrations": [
        b"owner: team\n", b"upstream: http://127.0.0.1:9\n", b"fragments:\n", b"  card:\n", b"    path: /card\n", b"    path: /card/{n}\n",
        b"    params: {n: {type: int}}\n", b"    params: {n: {type: str, pattern: '(a*)*b'}}\n", b"    query: {n: '{n}'}\n", b"pages:\n",
        b"policy: {timeout: {total: 1s}}\n", b"policy: {cache: {fresh: 30s}}\n", b"&a ", b"*a", b"!!python/object:x", b"<<: ", b"- ", b"? ", b"{", b"}", b"[",
        b"]", b"|\n", b">\n", b"'", b'"', b"#", b"---\n", b"...\n", b"%YAML 1.1\n", b"\t", b"\0", b"\xff", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"12:30:45", b"on", b"~",
        b"csp: {script-src: ['*']}\n", b"grant: {redirects: ['https://x']}\n", b"proxy: [{path: '/a/{r:path}', to: '/{r}'}]\n", b"events: [{type: a}]\n",
    ],
    "shells": [
        b"<!doctype html>", b"<html lang={locale}>", b"<head>", b"<meta charset=utf-8>", b"<title>", b"</title>", b"</head>", b"<body>", b"</body>", b"</html>",
        b'<bff-fragment name="shop/card">', b"</bff-fragment>", b'<bff-fragment name="shop/card" primary wrap="none" x="{query.n}">', b"<p>", b"</p>", b"<form>",
        b"<script>", b"</script>", b"<style>", b"</style>", b"<!--", b"-->", b"<?start", b"<template>", b"</template>", b"<table>", b"<svg/>", b"<base>", b"{path.x}",
        b"\xc3\xa9", b"\0", b"<", b">", b'"', b"'", b"=", b" as=x", b"\n", b"<link rel=canonical href=x>", b"<textarea>", b"&lt;",
    ],
    "fragments": [
        b"<p>", b"</p>", b"<div>", b"</div>", b"<table>", b"<tr>", b"<td>", b"</table>", b"<script>", b"</script>", b"<!--", b"-->", b"--!>", b"<style>", b"</style>", b"<svg>",
        b"</svg>", b"<math>", b"<mtext>", b"<foreignObject>", b"<title>", b"</title>", b"<noscript>", b"</noscript>", b"<template>", b"</template>", b"<select>", b"<option>",
        b"<a>", b"<b>", b"<form>", b"</form>", b"<base>", b"<meta http-equiv=refresh>", b"<?start name='s1.x'>", b"<?end>", b"<![CDATA[", b"]]>", b"<plaintext>", b"<img a='",
        b'"', b"'", b"<", b">", b"/", b"=", b"&amp;", b"&#0;", b"\0", b"\xff", b"\xef\xbb\xbf", b"<textarea>", b"<iframe>", b"</br>", b"<frameset>", b"<body onload=x>",
        b"<bff-fragment name=a/b>", b"</bff-fragment>", b"<mglyph>", b"<annotation-xml encoding=text/html>", b"<li>", b"<ruby><rt>", b"<nobr>",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("target", "file"),
    [(name, file) for name in TARGETS for file in SEEDS[name]],
    ids=lambda each: getattr(each, "name", each),
)
def test_what_once_was_of_interest_holds(target: str, file: Path) -> None:
    TARGETS[target](file.read_bytes())


def made(target: str) -> st.SearchStrategy[bytes]:
    """Words of the grammar in any order, the corpus with pieces of it changed, and anything."""
    words = st.lists(st.sampled_from(WORDS[target]) | st.binary(max_size=3), max_size=30).map(b"".join)
    seeds = [file.read_bytes() for file in SEEDS[target]]
    spliced = st.builds(
        lambda seed, at, length, new: seed[: at % (len(seed) + 1)] + new + seed[at % (len(seed) + 1) + length :],
        st.sampled_from(seeds), st.integers(0, 5000), st.integers(0, 20), words | st.binary(max_size=8),
    )  # fmt: skip
    return words | spliced | st.binary(max_size=200)


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes_are_read_or_refused(target: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], database=None)
    @given(made(target))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()
