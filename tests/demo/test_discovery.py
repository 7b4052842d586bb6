"""The demo's catalogue: shapes of the real API, its envelope, and what a good origin says about freshness."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from .demo import client, create

pytestmark = pytest.mark.anyio

COURSE = {
    "key", "uuid", "title", "course_runs", "entitlements", "owners", "image", "short_description", "full_description", "level_type",
    "subjects", "prerequisites", "expected_learning_items", "video", "sponsors", "modified", "marketing_url", "outcome",
    "canonical_course_run_key", "enrollment_count", "url_slug", "programs",
}  # fmt: skip
RUN = {
    "key", "uuid", "title", "image", "short_description", "marketing_url", "seats", "start", "end", "enrollment_end",
    "weeks_to_complete", "pacing_type", "type", "status", "is_enrollable", "availability", "content_language", "min_effort",
    "max_effort", "enrollment_count",
}  # fmt: skip
PROGRAM = {
    "uuid", "title", "subtitle", "type", "type_attrs", "status", "marketing_slug", "marketing_url", "courses",
    "authoring_organizations", "overview", "price_ranges", "total_hours_of_effort", "languages", "subjects",
}  # fmt: skip


async def get(path: str, **options: Any) -> httpx2.Response:
    async with client(create("discovery")) as http:
        return await http.get(path, **options)


async def test_forty_courses_and_six_programs_at_least_in_the_pages_of_drf() -> None:
    first = (await get("/api/v1/courses/")).json()
    assert first["count"] >= 40
    assert len(first["results"]) == 10
    assert first["previous"] is None
    assert first["next"] == "http://service/api/v1/courses/?page=2"
    assert (first["num_pages"], first["current_page"], first["start"]) == (-(-first["count"] // 10), 1, 0)
    last = (await get(f"/api/v1/courses/?page={first['num_pages']}")).json()
    assert last["next"] is None
    assert last["start"] + len(last["results"]) == first["count"]
    assert (await get("/api/v1/programs/")).json()["count"] >= 6


async def test_every_course_is_written_by_hand_and_shaped_like_the_real_thing() -> None:
    courses = (await get("/api/v1/courses/?page_size=100")).json()["results"]
    for course in courses:
        assert course.keys() >= COURSE
        assert all(run.keys() >= RUN for run in course["course_runs"])
        assert len(course["full_description"]) > 100
        assert course["image"].keys() >= {"src"}
    assert (
        len({course["title"] for course in courses})
        == len({course["short_description"] for course in courses})
        == len(courses)
    )


async def test_programs_are_made_of_courses_that_exist() -> None:
    courses = {course["key"] for course in (await get("/api/v1/courses/?page_size=100")).json()["results"]}
    for program in (await get("/api/v1/programs/")).json()["results"]:
        assert program.keys() >= PROGRAM
        assert courses >= {course["key"] for course in program["courses"]}
        assert (await get(f"/api/v1/programs/{program['uuid']}/")).json() == program


async def test_a_run_is_current_between_its_start_and_its_end() -> None:
    now = datetime.now(UTC)
    runs = (await get("/api/v1/course_runs/?page_size=100")).json()["results"]
    for run in runs:
        under_way = datetime.fromisoformat(run["start"]) <= now < datetime.fromisoformat(run["end"])
        assert (run["availability"] == "Current") is under_way
    assert {run["availability"] for run in runs} == {"Current", "Starting Soon", "Upcoming"}


async def test_courses_are_found_by_key_uuid_subject_words_and_list() -> None:
    course = (await get("/api/v1/courses/HarborX%2BNAV101/")).json()
    assert (await get(f"/api/v1/courses/{course['uuid']}/")).json() == course
    maths = (await get("/api/v1/courses/?subject=math")).json()
    assert {row["subjects"][0]["slug"] for row in maths["results"]} == {"math"}
    assert (await get("/api/v1/courses/?q=paper+charts")).json()["count"] == 0
    assert [row["key"] for row in (await get("/api/v1/courses/?q=CHART+compass")).json()["results"]] == [
        "HarborX+NAV101"
    ]
    listed = (await get("/api/v1/courses/?keys=LowlandX%2BCS340,No%2BSuch,HarborX%2BNAV101")).json()["results"]
    assert [row["key"] for row in listed] == ["LowlandX+CS340", "HarborX+NAV101"]
    run = (await get("/api/v1/course_runs/course-v1:HarborX%2BNAV101%2BR1/")).json()
    assert run == course["course_runs"][0]


@pytest.mark.parametrize("path", ["/api/v1/courses/No%2BSuch/", "/api/v1/courses/?page=99", "/api/v1/course_runs/x/",
                                  "/api/v1/course_runs/x/enrollment/", "/api/v1/programs/x/"])  # fmt: skip
async def test_what_is_not_there_is_404(path: str) -> None:
    response = await get(path)
    assert response.status_code == 404
    assert response.json() == {"detail": "Not found."}


@pytest.mark.parametrize("page", ["0", "-1", "x", "²", "1e3"])
async def test_a_nonsense_page_is_the_first(page: str) -> None:
    assert (await get("/api/v1/courses/", params={"page": page})).json()["current_page"] == 1


async def test_it_says_how_long_an_answer_is_fresh_and_answers_304_to_its_own_etag() -> None:
    response = await get("/api/v1/subjects/")
    assert "max-age=10" in response.headers["cache-control"]
    assert "stale-if-error" in response.headers["cache-control"]
    assert response.headers["last-modified"].endswith("GMT")
    again = await get("/api/v1/subjects/", headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == response.headers["etag"]


async def test_seats_are_counted_now_and_never_kept() -> None:
    response = await get("/api/v1/course_runs/course-v1:HarborX%2BNAV101%2BR1/enrollment/")
    data = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert data["capacity"] == data["enrollment_count"] + data["seats_left"]
