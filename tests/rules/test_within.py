import pytest

from bff.model import Upstream
from bff.rules.within import within

HERE = Upstream(scheme="http", host="::1", port=9107, authority="[::1]:9107")


@pytest.mark.parametrize(
    ("stated", "target"),
    [
        ("x", "/a/x"),
        ("/x?y", "/x?y"),
        ("http://[::1]:9107/x", "/x"),
        ("http://[::1]/x", None),
        ("http://[::2]:9107/x", None),
        ("..", "/"),
        ("../../../x", "/x"),
        ("/%2e%2e/x", None),
        ("", None),
    ],
)
def test_what_stays_and_what_leaves(stated: str, target: str | None) -> None:
    assert within(stated, "/a/b", HERE) == target
