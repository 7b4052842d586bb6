"""The demo's baskets: whose they are, what a form changes, and that no course is named by a service that cannot know it."""

from __future__ import annotations

import re

import pytest

from .demo import client, create

pytestmark = pytest.mark.anyio


async def test_a_basket_is_lines_with_prices_and_leaves_the_names_to_discovery() -> None:
    async with client(create("ecommerce")) as http:
        response = await http.get("/baskets/1/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text.startswith("<title>Your basket · Halyard</title>")
    keys = re.findall(r'<bff-fragment name="discovery/course-line" course_key="([^"]+)"', response.text)
    assert keys == ["course-v1:HarborX+NAV101+R1", "course-v1:HarborX+NAV205+R1", "course-v1:MeridianX+BR105+R1"]
    assert "$287.00" in response.text
    assert "Navigation" not in response.text


async def test_no_such_basket_is_a_page_of_its_own() -> None:
    async with client(create("ecommerce")) as http:
        for response in (await http.get("/baskets/99/"), await http.post("/baskets/99/")):
            assert response.status_code == 404
            assert response.text.startswith("<title>There is no such basket · Halyard</title>")


async def test_a_basket_is_its_owners() -> None:
    app = create("ecommerce")
    async with client(app) as nobody, client(app, user="ben") as ben, client(app, user="ada") as ada:
        assert [(await http.get("/baskets/2/")).status_code for http in (nobody, ben, ada)] == [403, 403, 200]
        assert (await ben.post("/baskets/2/", data={"action": "place"})).status_code == 403
        assert "ada’s basket" in (await ada.get("/baskets/2/")).text
        assert {(await http.get("/baskets/1/")).status_code for http in (nobody, ben, ada)} == {200}


@pytest.mark.parametrize(
    ("form", "note", "shown"),
    [
        ({"action": "quantity", "line": "course-v1:HarborX+NAV101+R1", "quantity": "3"}, "quantity", "$465.00"),
        ({"action": "quantity", "line": "course-v1:HarborX+NAV101+R1", "quantity": "0"}, "removed", "$198.00"),
        ({"action": "quantity", "line": "course-v1:HarborX+NAV101+R1", "quantity": "²"}, "quantity", "$287.00"),
        ({"action": "voucher", "code": " halyard15 "}, "voucher", "−$43.05"),
        ({"action": "voucher", "code": "<script>"}, "novoucher", "$287.00"),
    ],
)
async def test_a_change_answers_with_a_redirect_to_the_page(form: dict[str, str], note: str, shown: str) -> None:
    async with client(create("ecommerce")) as http:
        response = await http.post("/baskets/1/", data=form)
        assert (response.status_code, response.headers["location"]) == (303, f"/checkout/1?note={note}")
        page = (await http.get(f"/baskets/1/?note={note}")).text
    assert shown in page
    assert 'role="status"' in page


async def test_an_order_is_placed_once_and_can_be_opened_again() -> None:
    async with client(create("ecommerce")) as http:
        assert (await http.post("/baskets/1/", data={"action": "place"})).headers["location"] == "/checkout/1"
        placed = (await http.get("/baskets/1/")).text
        assert "<title>Order placed" in placed
        assert 'name="quantity"' not in placed
        await http.post("/baskets/1/", data={"action": "again"})
        assert "Place order" in (await http.get("/baskets/1/")).text


async def test_an_empty_basket_cannot_be_ordered_and_a_note_it_does_not_know_is_not_shown() -> None:
    async with client(create("ecommerce")) as http:
        await http.post("/baskets/6/", data={"action": "place"})
        page = (await http.get("/baskets/6/?note=%3Cb%3E")).text
    assert "Nothing in here yet" in page
    assert "<b>" not in page


async def test_my_basket_is_a_redirect_to_the_first_of_mine() -> None:
    app = create("ecommerce")
    for user, path in (
        ("ada", "/checkout/2"),
        ("cleo", "/checkout/4"),
        (None, "/checkout/1"),
        ("stranger", "/checkout/6"),
    ):
        async with client(app, user=user) as http:
            assert (await http.get("/baskets/current/")).headers["location"] == path


async def test_adding_counts_what_is_there_and_takes_course_runs_only() -> None:
    async with client(create("ecommerce"), user="ben") as http:
        for key in ("course-v1:LowlandX+CS340+R1", "course-v1:LowlandX+CS340+R1", "javascript:x"):
            response = await http.post("/baskets/current/", data={"course_key": key})
            assert response.headers["location"] == "/checkout/3?note=added"
        page = (await http.get("/baskets/3/")).text
    assert page.count('class="line"') == 2
    assert "$358.00" in page


async def test_what_a_course_costs_may_be_kept_by_anybody() -> None:
    async with client(create("ecommerce")) as http:
        known, unknown = await http.get("/buy/LowlandX%2BCS340/"), await http.get("/buy/CivicX%2BLIT175/")
    assert "$179.00" in known.text
    assert "$89.00" in unknown.text
    assert known.headers["cache-control"].startswith("public")
