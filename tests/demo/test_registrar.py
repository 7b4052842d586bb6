"""The demo's registrar: lists for those who are signed in, files for those who asked for them."""

from __future__ import annotations

import csv

import pytest

from .demo import client, create

pytestmark = pytest.mark.anyio

PROGRAM = "/api/v1/programs/0fc08528-4ee1-54b4-9a63-c35ffb310a4b"


async def test_the_list_goes_on_to_its_end() -> None:
    seen = []
    url: str | None = f"{PROGRAM}/learners/?page_size=50"
    async with client(create("registrar"), user="ada") as http:
        while url:
            answer = await http.get(url)
            assert answer.headers["cache-control"].startswith("private")
            page = answer.json()
            seen += [row["student_key"] for row in page["results"]]
            url = page["next"]
        assert len(seen) == len(set(seen)) == page["count"]
        for query in ("page=0", "page=x", "page=999", "page_size=-1"):
            assert (await http.get(f"{PROGRAM}/learners/?{query}")).status_code == 404
    async with client(create("registrar")) as http:
        assert (await http.get(f"{PROGRAM}/")).json()["enrollments"] == len(seen)
        assert (await http.get(f"{PROGRAM}/learners/")).status_code == 401


async def test_a_file_is_written_for_whoever_asked() -> None:
    now = [0.0]
    app = create("registrar", writing=10.0, clock=lambda: now[0])
    async with client(app, user="ada") as ada, client(app, user="ben") as ben:
        begun = await ada.get(f"{PROGRAM}/enrollments/?fmt=csv")
        assert (begun.status_code, begun.headers["cache-control"]) == (202, "no-store")
        url = begun.json()["job_url"]
        told = []
        for now[0] in (0.0, 2.0, 10.0):
            told.append((await ada.get(url)).json())
        assert [job["state"] for job in told] == ["Pending", "In Progress", "Succeeded"]
        assert [job["completed_steps"] * 2 // job["total_steps"] for job in told] == [0, 0, 2]
        assert [bool(job["result"]) for job in told] == [False, False, True]
        file = await ada.get(told[2]["result"])
        assert file.headers["content-disposition"] == 'attachment; filename="enrolments-0fc08528.csv"'
        rows = list(csv.DictReader(file.text.splitlines()))
        assert len(rows) == told[2]["total_steps"]
        assert rows[0].keys() == {"student_key", "status", "curriculum_uuid", "enrolled"}
        for other in (url, told[2]["result"], "/api/v1/jobs/none/"):
            assert (await ben.get(other)).status_code == 404
        now[0] = 9.0
        assert (await ada.get(told[2]["result"])).status_code == 404


async def test_who_is_not_signed_in_begins_nothing() -> None:
    async with client(create("registrar")) as http:
        assert (await http.get(f"{PROGRAM}/enrollments/?fmt=csv")).status_code == 401
    async with client(create("registrar"), user="ada") as http:
        assert (await http.get(f"{PROGRAM}/enrollments/?fmt=xml")).status_code == 404


async def test_jobs_kept_are_bounded() -> None:
    app = create("registrar")
    async with client(app, user="ada") as http:
        urls = [(await http.get(f"{PROGRAM}/enrollments/?fmt=csv")).json()["job_url"] for _ in range(501)]
        assert (await http.get(urls[0])).status_code == 404
        assert (await http.get(urls[1])).status_code == 200
