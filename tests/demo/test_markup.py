"""What the demo's services answer, made into HTML by the registrations' own templates: complete, and safe as it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bff.config.manifest import Manifest, read_context
from bff.config.render import compile_template
from bff.markup.check import Checker
from bff.model import Meta

from .demo import FRAGMENTS, NAMES, client, create

pytestmark = pytest.mark.anyio

PROGRAM = "0fc08528-4ee1-54b4-9a63-c35ffb310a4b"
GIVEN: Mapping[str, str] = {
    "page": "1", "page_size": "6", "subject": "", "q": "", "note": "", "user": "ada", "program": PROGRAM, "basket_id": "1",
    "keys": "HarborX%2BNAV101,LowlandX%2BCS340",
}  # fmt: skip
EMPTY = {"current", "export"}  # their answers are a redirect, and a task


def manifest(context: str) -> Manifest:
    found, _ = read_context(FRAGMENTS / context, env={})
    assert found is not None
    return found


FRAGMENTS_OF = [(context, name) for context in NAMES for name in manifest(context).spec.fragments if name not in EMPTY]


def target(context: str, name: str) -> tuple[str, dict[str, str]]:
    """The URL that the gateway would ask for, and the parameters, each as its example or as given above."""
    fragment = manifest(context).spec.fragments[name]
    params = {key: GIVEN.get(key) or getattr(param, "example", "") or "" for key, param in fragment.params.items()}
    encoded = {key: value.replace("+", "%2B") for key, value in params.items()}
    query = "&".join(f"{key}={text.format(**encoded)}" for key, text in fragment.query.items())
    return f"{fragment.path.format(**encoded)}?{query}", params


async def html(context: str, name: str) -> bytes:
    fragment = manifest(context).spec.fragments[name]
    url, params = target(context, name)
    app = create(context, controls={}) if context == "site" else create(context)
    async with client(app, user="ada") as http:
        response = await http.get(url)
    assert response.status_code == 200, url
    if not fragment.template:
        return response.content
    render, findings = compile_template(FRAGMENTS, context, fragment.template)
    assert render is not None, findings
    as_of = response.json().get(fragment.as_of, "") if fragment.as_of else ""
    return render(response.json(), params, Meta(date="2026-11-24T06:30:00Z", as_of=as_of), 1.0).encode()


@pytest.mark.parametrize(("context", "name"), FRAGMENTS_OF, ids="/".join)
async def test_a_fragment_is_written_as_it_is(context: str, name: str) -> None:
    """A body that needed repair would be parsed by a whole HTML parser: the demo's own teams write clean ones."""
    body = await html(context, name)
    embeds = tuple(manifest(context).spec.fragments[name].embeds)
    markup = Checker().verdict(body, embeds=embeds, head=True)
    assert markup is not None
    assert not markup.repaired
    assert body.strip()


FALLBACKS = sorted(FRAGMENTS.glob("*/fallbacks/*"))


@pytest.mark.parametrize("file", FALLBACKS, ids=lambda file: file.relative_to(FRAGMENTS).as_posix())
def test_a_fallback_is_written_as_it_is(file: Path) -> None:
    if file.suffix == ".json":
        assert isinstance(json.loads(file.read_bytes()), dict)
    else:
        assert Checker().verdict(file.read_bytes()) is not None


async def test_what_a_course_page_shows() -> None:
    page = (await html("discovery", "course-about")).decode()
    assert page.startswith("<title>Coastal Navigation by Chart and Compass · Halyard</title>")
    assert '<bff-fragment name="discovery/seats-left" course_key="course-v1:HarborX+NAV101+R1" load="client"' in page
    assert re.findall(r'href="#f(.)"', page) == list("NAV101")
    assert "3 to 5 hours a week for 6 weeks" in page
    assert ">Offshore Navigator</a>" in page
    assert "Catalogue as of " in page


async def test_grades_say_as_of_when() -> None:
    page = (await html("credentials", "grades")).decode()
    assert page.count('<li class="tile">') == 4
    assert len(re.findall(r"as of \d+ \w{3}, \d\d:\d\d UTC", page)) == 4


async def test_a_card_asks_for_its_price() -> None:
    page = (await html("discovery", "course-card")).decode()
    assert '<bff-fragment name="discovery/price" course_key="course-v1:HarborX+NAV101+R1"' in page
    assert (await html("discovery", "price")).decode().strip() == "$89"


async def render(name: str, data: Any, **params: str) -> str:
    fragment = manifest("discovery").spec.fragments[name]
    made, _ = compile_template(FRAGMENTS, "discovery", fragment.template or "")
    assert made is not None
    return made(data, params, Meta(date="", as_of=""), 1.0)


async def test_a_search_that_finds_nothing_says_so_and_keeps_what_was_typed_as_text() -> None:
    page = await render("course-list", {"count": 0, "results": [], "num_pages": 1}, q="<script>", subject="math")
    assert "0 courses in math for “&lt;script&gt;”. Nothing flies under that." in page


async def test_the_next_page_keeps_the_search() -> None:
    data = {"count": 30, "results": [], "num_pages": 3, "current_page": 2, "next": "x", "previous": "y"}
    page = await render("course-list", data, q="a&b", subject="math")
    assert re.findall(r'href="(/courses\?page=[^"]+)"', page) == [
        "/courses?page=1&amp;subject=math&amp;q=a%26b",
        "/courses?page=3&amp;subject=math&amp;q=a%26b",
    ]


async def test_the_chosen_subject_is_selected() -> None:
    data = {"results": [{"slug": "math", "name": "Math"}, {"slug": "design", "name": "Design"}]}
    page = await render("subject-options", data, subject="design")
    assert re.findall(r'value="(\w+)" selected', page) == ["design"]
