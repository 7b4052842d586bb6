import pytest

from bff.page.routes import Routes
from tests.build import document, page

ROUTES = Routes(
    [
        page(document(), route, name=f"x/{at}")
        for at, route in enumerate(
            ["/", "/a/{x}", "/a/b", "/a/{x}/c", "/{rest:path}", "/a/{x}/{rest:path}", "/f/{n}.html"]
        )
    ]
)


@pytest.mark.parametrize(
    ("path", "route", "given"),
    [
        ("/", "/", {}),
        ("/a/b", "/a/b", {}),
        ("/a/q", "/a/{x}", {"x": "q"}),
        ("/a/q/c", "/a/{x}/c", {"x": "q"}),
        ("/a/q/d/e", "/a/{x}/{rest:path}", {"x": "q", "rest": "d/e"}),
        ("/z/y", "/{rest:path}", {"rest": "z/y"}),
        ("/a/b%2Fc", "/a/{x}", {"x": "b/c"}),
        ("/a/%C3%A9", "/a/{x}", {"x": "é"}),
        ("/f/1.html", "/f/{n}.html", {"n": "1"}),
        ("/a/", "/{rest:path}", {"rest": "a/"}),
        ("/a/q/", "/a/{x}/{rest:path}", {"x": "q", "rest": ""}),
    ],
)
def test_the_most_specific_route_wins(path: str, route: str, given: dict[str, str]) -> None:
    found = ROUTES.find(path)
    assert found is not None
    assert (found[0].route, found[1]) == (route, given)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/kurse/%c3%bcber", "/kurse/%C3%BCber"),
        ("/kurse/%C3%BCber", "/kurse/%c3%bcber"),
        ("/~user", "/%7euser"),
        ("/%7Euser", "/~user"),
        ("/s/new", "/s/%6eew"),
        ("/%c3%a9/{x}", "/%C3%A9/1"),
    ],
)
def test_a_route_is_found_however_it_is_spelt(written: str, asked: str) -> None:
    routes = Routes([page(document(), "/s/{x}", name="x/any"), page(document(), written, name="x/one")])
    found = routes.find(asked)
    assert found is not None
    assert (found[0].name, routes.find(written.replace("{x}", "1"))) == ("x/one", found)


def test_what_is_sent_for_a_parameter_stays_as_it_was_sent() -> None:
    routes = Routes([page(document(), "/r/{rest:path}", name="x/all"), page(document(), "/r/a/b", name="x/one")])
    found = routes.raw("/r/%7e%2e%2e%2fa%2fb")
    assert found is not None
    assert (found[0].name, found[1]) == ("x/all", {"rest": "%7e%2e%2e%2fa%2fb"})


def test_no_page_and_undecodable_text() -> None:
    assert ROUTES.find("/a/%ff") is None
    assert Routes([]).find("/") is None


def test_the_rest_of_a_path_may_be_empty() -> None:
    routes = Routes(
        [page(document(), "/{rest:path}", name="x/all"), page(document(), "/api/{rest:path}", name="x/api")]
    )
    assert [(at[0].name, at[1]) for path in ("/", "/api", "/api/") if (at := routes.find(path))] == [
        ("x/all", {"rest": ""}),
        ("x/all", {"rest": "api"}),
        ("x/api", {"rest": ""}),
    ]


def test_the_raw_text_of_parameters() -> None:
    found = ROUTES.raw("/a/q%2f/%C3/e//")
    assert found is not None
    assert found[1] == {"x": "q%2f", "rest": "%C3/e//"}
    assert Routes([]).raw("/") is None
