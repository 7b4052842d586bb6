import pytest

from bff.rules.cachestatus import appended, forwarded, hit


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (hit(37.9), "bff; hit; ttl=37"),
        (hit(-36.1, detail="stale-error"), "bff; hit; ttl=-37; detail=stale-error"),
        (hit(0), "bff; hit; ttl=0"),
        (forwarded("uri-miss"), "bff; fwd=uri-miss"),
        (forwarded("stale", status=304, ttl=60, stored=True), "bff; fwd=stale; fwd-status=304; ttl=60; stored"),
        (forwarded("vary-miss", collapsed=True, detail="no-store"), "bff; fwd=vary-miss; collapsed; detail=no-store"),
        (forwarded("request", detail='said "no"'), 'bff; fwd=request; detail="said \\"no\\""'),
        (forwarded("", detail="only-if-cached"), "bff; detail=only-if-cached"),
    ],
)
def test_what_is_said(made: bytes, text: str) -> None:
    assert made.decode() == text


@pytest.mark.parametrize(
    ("upstream", "whole"),
    [(b"", b"bff; hit; ttl=1"), (b" ", b"bff; hit; ttl=1"), (b"Origin; hit", b"Origin; hit, bff; hit; ttl=1")],
)
def test_ours_comes_last(upstream: bytes, whole: bytes) -> None:
    assert appended(upstream, hit(1)) == whole
