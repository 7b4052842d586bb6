"""Files held in memory: their forms, ETags, and a folder of them."""

from pathlib import Path

import pytest

from bff.gateway.compress import CODINGS, Coding
from bff.gateway.packed import KINDS, Static, pack
from tests.gateway.test_compress import decoder

CSS = b".card { color: red }\n" * 200


@pytest.mark.parametrize("coding", CODINGS)
def test_each_coding_is_made_once_and_chosen_by_the_client(coding: Coding) -> None:
    file = pack(".css", CSS)
    answer = file.answer([(b"accept-encoding", coding.encode())], b"public")
    headers = dict(answer.headers)
    assert answer.status == 200
    assert headers[b"content-encoding"] == coding.encode()
    assert headers[b"content-type"] == b"text/css; charset=utf-8"
    assert headers[b"vary"] == b"Accept-Encoding"
    assert int(headers[b"content-length"]) == len(answer.body) < len(CSS) / 10
    assert decoder(coding)(answer.body) == CSS
    assert file.answer([(b"accept-encoding", coding.encode())], b"public").body is answer.body


def test_as_it_is_for_who_asks_for_nothing_else() -> None:
    answer = pack(".css", CSS).answer([], b"public, max-age=5")
    assert answer.body == CSS
    headers = dict(answer.headers)
    assert b"content-encoding" not in headers
    assert (headers[b"vary"], headers[b"cache-control"]) == (b"Accept-Encoding", b"public, max-age=5")
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize(("suffix", "data"), [(".css", b"a{}"), (".png", CSS), (".woff2", CSS)])
def test_what_no_coding_makes_smaller_is_sent_as_it_is(suffix: str, data: bytes) -> None:
    answer = pack(suffix, data).answer([(b"accept-encoding", b"gzip, br, zstd")], b"public")
    assert answer.body == data
    assert b"content-encoding" not in dict(answer.headers)


def test_who_has_it_already_gets_no_body() -> None:
    file = pack(".js", CSS)
    for tag in (file.etag, b'"a", ' + file.etag.removeprefix(b"W/"), b"*"):
        answer = file.answer([(b"if-none-match", tag)], b"public")
        assert (answer.status, answer.body) == (304, b"")
        assert dict(answer.headers)[b"etag"] == file.etag
    assert file.answer([(b"if-none-match", b'"a"')], b"public").status == 200


def test_an_image_that_could_be_a_document_is_sandboxed() -> None:
    assert b"sandbox" in dict(pack(".svg", b"<svg/>").answer([], b"public").headers)[b"content-security-policy"]
    assert b"content-security-policy" not in dict(pack(".png", b"x").answer([], b"public").headers)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        pack(".exe", b"MZ")
    assert all(suffix.startswith(".") and suffix.islower() for suffix in KINDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.js").write_bytes(b"1")
    (tmp_path / "sub" / "b.css").write_bytes(b"2")
    (tmp_path / "secret.pem").write_bytes(b"3")
    return tmp_path


def test_a_folder_of_files(folder: Path) -> None:
    static = Static(folder)
    assert static.answer("a.js", []).body == b"1"
    assert static.answer("sub/b.css", []).body == b"2"
    for path in ("secret.pem", "../a.js", "sub/../a.js", "/a.js", "sub", "", "a.js\x00"):
        assert static.answer(path, []).status == 404


@pytest.mark.parametrize("changing", [False, True])
def test_files_that_change_are_read_again_where_they_may(folder: Path, *, changing: bool) -> None:
    static = Static(folder, changing=changing)
    (folder / "a.js").write_bytes(b"new")
    answer = static.answer("a.js", [])
    assert answer.body == (b"new" if changing else b"1")
    assert (dict(answer.headers)[b"cache-control"] == b"no-cache") is changing


def test_a_folder_is_encoded_once_one_of_its_files_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_bytes(CSS)
    static = Static(tmp_path)
    static.settle()
    asking = [(b"accept-encoding", b"gzip")]
    first = static.answer("a.css", asking)
    static.settle()
    answer = static.answer("a.css", asking)
    assert dict(answer.headers)[b"content-encoding"] == b"gzip"
    assert dict(answer.headers)[b"etag"] == dict(first.headers)[b"etag"]
    assert decoder("gzip")(answer.body) == CSS
