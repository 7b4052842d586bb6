import json
from base64 import b64encode
from hashlib import sha256

import pytest

from bff.gateway.problems import problem


def test_a_problem_for_programs() -> None:
    made = problem(503, "Come back later.", html=False, headers=[(b"retry-after", b"1")])
    assert json.loads(made.body) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "Come back later.",
    }
    head = dict(made.headers)
    assert head[b"content-type"] == b"application/problem+json"
    assert head[b"retry-after"] == b"1"
    assert int(head[b"content-length"]) == len(made.body)


@pytest.mark.parametrize(("status", "title"), [(420, "Client Error"), (499, "Client Error"), (599, "Server Error")])
def test_a_status_that_nobody_registered_is_one_of_its_class(status: int, title: str) -> None:
    """A context may answer with any (RFC 9110 §15)."""
    made = json.loads(problem(status, "No.", html=False).body)
    assert (made["title"], made["status"]) == (title, status)
    assert f"<h1>{title}</h1>".encode() in problem(status, "No.", html=True).body


def test_a_page_for_people_escapes_what_it_says() -> None:
    made = problem(404, "<script>", html=True)
    assert b"&lt;script&gt;" in made.body
    assert b"<h1>Not Found</h1>" in made.body


def test_a_page_for_people_is_styled_by_what_its_policy_allows_and_nothing_else() -> None:
    made = problem(503, "Come back later.", html=True)
    style = made.body.partition(b"<style>")[2].partition(b"</style>")[0]
    digest = b64encode(sha256(style).digest())
    policy = dict(made.headers)[b"content-security-policy"]
    assert b"default-src 'none'; style-src 'sha256-" + digest + b"';" in policy
    assert b"color-scheme:light dark" in style
    assert b"{{" not in made.body
