import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.model import Upstream
from bff.rules import tasks
from bff.rules.tasks import Job, Signer, Task

HERE = Upstream(scheme="http", host="jobs.test", port=9107, authority="jobs.test:9107", base="/base")
ASKED = "/base/api/v1/programs/x/enrollments/?fmt=csv"


@pytest.mark.parametrize(
    ("found", "body", "where"),
    [
        ({b"location": b"/jobs/1"}, b"", "/jobs/1"),
        ({b"location": b"/jobs/1"}, b'{"job_url": "/jobs/2"}', "/jobs/1"),
        ({}, b' {"job_id": "2", "job_url": "http://jobs.test/2"}', "http://jobs.test/2"),
        ({}, b'{"job_url": 7}', ""),
        ({}, b'{"job_url": ', ""),
        ({}, b"[" * 9, ""),
        ({}, b"{" + b'"a":[' * 100_000, ""),
        ({}, b"", ""),
    ],
)
def test_a_202_leads_to_its_location_or_to_the_registrars_job_url(
    found: dict[bytes, bytes], body: bytes, where: str
) -> None:
    assert tasks.begun(found, body) == where


@pytest.mark.parametrize(
    ("stated", "target"),
    [
        ("/base/jobs/1", "/base/jobs/1"),
        ("/base/jobs/1?x=%20y#z", "/base/jobs/1?x=%20y"),
        ("http://jobs.test:9107/base/jobs/1/", "/base/jobs/1/"),
        ("HTTP://JOBS.test:9107/base/", "/base/"),
        ("//jobs.test:9107/base/jobs/1", "/base/jobs/1"),
        ("../../../jobs/1", "/base/api/v1/jobs/1"),
        ("?fmt=json", "/base/api/v1/programs/x/enrollments/?fmt=json"),
    ],
)
def test_a_location_under_the_upstream_is_a_target(stated: str, target: str) -> None:
    assert tasks.target(stated, ASKED, HERE) == target


@pytest.mark.parametrize(
    "stated",
    [
        "",
        "/jobs/1",
        "/base",
        "/basement/1",
        "/base/../jobs/1",
        "/base/%2e%2E/jobs/1",
        "https://jobs.test:9107/base/1",
        "http://jobs.test/base/1",
        "http://jobs.test:9107@evil.test/base/1",
        "http://a@jobs.test:9107/base/1",
        "http://evil.test:9107/base/1",
        "//evil.test/base/1",
        "http://jobs.test:x/base/1",
        "http://[jobs.test:9107/base/1",
        "/base\\jobs",
        "/base/a b",
        "/base/\r\nx",
        "/base/é",
        "javascript:alert(1)",
        "/base/" + "x" * tasks.LONGEST,
    ],
)
def test_what_leaves_the_upstream_is_refused(stated: str) -> None:
    assert tasks.target(stated, ASKED, HERE) is None


def test_default_ports_need_not_be_written() -> None:
    secure = Upstream(scheme="https", host="jobs.test", port=443, authority="jobs.test")
    assert tasks.target("https://jobs.test/1", "/", secure) == "/1"
    assert tasks.target("https://jobs.test:443", "/", secure) == "/"
    assert tasks.target("http://jobs.test/1", "/", secure) is None


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Pending", "pending"),
        ("In Progress", "running"),
        ("Succeeded", "succeeded"),
        ("Failed", "failed"),
        ("Canceled", "canceled"),
        ("Retrying", "running"),
        ("IN_PROGRESS", "running"),
        ("in-progress", "running"),
        ("SUCCESS", "succeeded"),
        ("REVOKED", "canceled"),
    ],
)
@pytest.mark.parametrize("key", ["state", "status"])
def test_words_are_mapped(word: str, state: str, key: str) -> None:
    made = tasks.job(200, {}, json.dumps({key: word}).encode())
    assert made is not None
    assert made.state == state
    assert made.over is (state in ("succeeded", "failed", "canceled"))


REGISTRAR = {
    "job_id": "3b985cec-dcf4-4d38-9498-8545ebcf5d0f",
    "name": "export",
    "created": "2026-02-01T10:00:00Z",
    "state": "Succeeded",
    "result": "http://jobs.test:9107/base/media/1.csv",
    "text": "",
}


def test_the_registrars_job() -> None:
    assert tasks.job(200, {}, json.dumps(REGISTRAR).encode()) == Job(state="succeeded", result=REGISTRAR["result"])
    running = REGISTRAR | {"state": "In Progress", "result": None}
    assert tasks.job(200, {b"retry-after": b"7"}, json.dumps(running).encode()) == Job(state="running", wait=7)
    early = REGISTRAR | {"state": "In Progress"}
    assert tasks.job(200, {}, json.dumps(early).encode()) == Job(state="running")
    failed = REGISTRAR | {"state": "Failed"}
    assert tasks.job(200, {}, json.dumps(failed).encode()) == Job(state="failed")


def test_plain_http_will_do() -> None:
    assert tasks.job(202, {b"retry-after": b"0"}, b"<p>not yet</p>") == Job(state="running", wait=1)
    assert tasks.job(303, {b"location": b"/base/1.csv"}, b"") == Job(state="succeeded", result="/base/1.csv")
    assert tasks.job(200, {}, b"a,b\n") == Job(state="succeeded", result="")
    assert tasks.job(200, {}, b'{"rows": []}') == Job(state="succeeded", result="")
    assert tasks.job(204, {}, b"") == Job(state="succeeded")


@pytest.mark.parametrize(
    ("status", "body"),
    [(303, b""), (404, b'{"state": "Succeeded"}'), (500, b""), (200, b'{"state": "Glad"}'), (206, b"x")],
)
def test_what_says_nothing_is_no_job(status: int, body: bytes) -> None:
    assert tasks.job(status, {}, body) is None


@pytest.mark.parametrize(
    ("said", "progress"),
    [
        ({"progress": 0.25}, 0.25),
        ({"progress": 1}, 1.0),
        ({"progress": 40}, 0.4),
        ({"progress": 400}, 1.0),
        ({"progress": -1}, 0.0),
        ({"progress": True}, None),
        ({"progress": "40 %"}, None),
        ({"completed_steps": 1, "total_steps": 3}, 0.3333),
        ({"completed_steps": 1, "total_steps": 0}, None),
        ({}, None),
    ],
)
def test_progress_is_a_share(said: dict[str, object], progress: float | None) -> None:
    made = tasks.job(200, {}, json.dumps({"state": "Pending", **said}).encode())
    assert made is not None
    assert made.progress == progress


@pytest.mark.parametrize(("stated", "wait"), [("12", 12), ("0", 1), ("99999", 3600), ("1" * 9, None), ("soon", None)])
def test_the_upstreams_pace_is_kept_within_reason(stated: str, wait: int | None) -> None:
    made = tasks.job(202, {b"retry-after": stated.encode()}, b"")
    assert made is not None
    assert made.wait == wait


def test_the_longer_it_takes_the_less_often_it_is_asked_for() -> None:
    assert [tasks.pause(age) for age in (0, 4, 10, 50, 75, 10_000)] == [1, 1, 2, 10, 15, 15]
    assert tasks.pause(0, 7) == 7


TASK = Task(name="registrar/export", target="/base/jobs/1", until=1000)


def test_an_id_is_its_principals_alone_and_ends() -> None:
    signer = Signer(["one"])
    signed = signer.sign(TASK, "ada")
    assert signer.read(signed, "ada", 999.0) == TASK
    assert signer.read(signed, "ada", 1000.0) is None
    for other in (None, "", "bob", "ad"):
        assert signer.read(signed, other, 0.0) is None
    nobodys = signer.sign(TASK, None)
    assert signer.read(nobodys, None, 0.0) == TASK
    assert signer.read(nobodys, "ada", 0.0) is None
    assert "ada" not in signed


def test_secrets_rotate() -> None:
    old, new = Signer(["one"]), Signer([b"two", "one"])
    assert new.read(old.sign(TASK, "ada"), "ada", 0.0) == TASK
    assert old.read(new.sign(TASK, "ada"), "ada", 0.0) is None
    assert Signer(["two"]).read(new.sign(TASK, "ada"), "ada", 0.0) == TASK


def test_one_principals_text_is_never_anothers_payload() -> None:
    signer = Signer(["one"])
    said, _, mac = signer.sign(TASK, 'a["x","/y",9]').partition(".")
    assert signer.read(f"{said}.{mac}", "a", 0.0) is None


@given(st.text(), st.text())
def test_forged_ids_are_nobodys(said: str, mac: str) -> None:
    assert Signer(["one"]).read(f"{said}.{mac}", None, 0.0) is None


@given(st.integers(0, 1000), st.integers(1, 255))
def test_no_bit_of_an_id_may_change(at: int, change: int) -> None:
    signer = Signer(["one"])
    signed = signer.sign(TASK, "ada")
    at %= len(signed)
    other = signed[:at] + chr(ord(signed[at]) ^ change) + signed[at + 1 :]
    read = signer.read(other, "ada", 0.0)
    assert read is None or read == TASK  # the last character of base64 has bits that mean nothing
