"""Typical mistakes in a team's folder, each made once: file, line, column, context, owner, and a remedy that is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from bff.config.options import Settings
from bff.errors import Finding
from bff.registry import Registry

YAML = "discovery/context.yaml"
CARD = "discovery/templates/course-card.html"
PAGE = "discovery/pages/course.html"
FILES = {
    YAML: """\
owner: team-discovery
contact: "#discovery"
upstream: http://127.0.0.1:9102
source: json
fragments:
  course-card:
    path: /api/v1/courses/{course_key}/
    params:
      course_key: {type: str, pattern: "course-v1:[^/]+"}
    template: templates/course-card.html
    fallback: [fallbacks/course-card.html]
    reserve: 120px
    policy: {timeout: {total: 800ms}, cache: {fresh: 30s}}
  list:
    path: /api/v1/courses/
    template: templates/course-card.html
pages:
  course:
    path: /courses/{course_key}
    template: pages/course.html
""",
    CARD: "<article>\n{{ data.title }}\n</article>\n",
    "discovery/templates/price.html": "<p>{{ data.price }}</p>\n",
    "discovery/fallbacks/course-card.html": "<p>not now</p>\n",
    PAGE: """\
{% extends "site/layouts/default.html" %}
{% block main %}
<bff-fragment name="discovery/course-card" course_key="{path.course_key}" primary></bff-fragment>
<bff-fragment name="discovery/list"><p>Loading</p></bff-fragment>
{% endblock %}
""",
    "site/context.yaml": "owner: team-site\nupstream: http://127.0.0.1:9106\nfragments: {header: {path: /header}}\n",
    "site/layouts/default.html": """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>T</title></head><body>{% block main %}{% endblock %}</body></html>
""",
}

Mistake = tuple[str, str, str, int, int, str, str]
"""The file, a text in it, what is written instead; line, column, a part of the message, the remedy."""
OF_YAML: list[Mistake] = [
    (YAML, "  course-card:", "\tcourse-card:", 6, 1, "a tab stands", "indent with spaces alone"),
    (YAML, "    params:", "   params:", 8, 4, "indented like no line above", "indent it as the keys beside it"),
    (YAML, "reserve: 120px", "reserve:120px", 12, 5, "no key and value", "write key: value, with a space after the colon"),
    (YAML, "/courses/{course_key}\n", "{course_key}/x\n", 19, 23, "follows the closing }", "put quotes around all of it, or close it once"),
]  # fmt: skip
OF_KEYS: list[Mistake] = [
    (YAML, "    fallback", "    fallbak", 11, 5, "unknown key 'fallbak'", "did you mean 'fallback'?"),
    (YAML, "    template: templates/course-card.html\n    f", "      template: templates/course-card.html\n    f", 10, 17,
     "template: must be a mapping", "template is a key of course-card: indent it less"),
    (YAML, "  list:\n    path: /api/v1/courses/\n    temp", "  list:\n  path: /api/v1/courses/\n  temp", 15, 9,
     "path: must be a mapping", "path is a key of the one above: indent it more"),
    (YAML, "    reserve: 120px", "    pages: {}", 12, 5, "unknown key 'pages'", "pages is a key of the file itself: indent it less"),
    (YAML, "    reserve: 120px", "    cache: {fresh: 1s}", 12, 5, "unknown key 'cache'", "cache is a key of policy: write it below that"),
    (YAML, "timeout: {total", "timout: {total", 13, 14, "unknown key 'timout'", "did you mean 'timeout'?"),
    (YAML, "timeout: {total: 800ms}", "total: 800ms", 13, 14, "unknown key 'total'", "write it as timeout.total"),
    (YAML, "timeout: {total: 800ms}", "timeout: 800ms", 13, 23, "timeout must be a mapping", "write its keys indented below it, or {key: value}"),
    (YAML, "fresh: 30s", "frseh: 30s", 13, 47, "unknown key 'cache.frseh'", "did you mean 'cache.fresh'?"),
    (YAML, "[fallbacks/course-card.html]", "fallbacks/course-card.html", 11, 15, "must be a list", "write [a, b] or a line with - for each"),
    (YAML, "800ms", "800", 13, 31, "'800' is not a duration", "write a number and a unit, such as 250ms, 1.5s, 5m or 24h"),
    (YAML, "source: json", "source: JSON", 4, 9, "unknown source 'JSON'", "did you mean 'json'?"),
    (YAML, "cache: {fresh: 30s}", "on_error: [fallbck]", 13, 49, "'fallbck' is not one of", "did you mean 'fallback'?"),
    (YAML, '"#discovery"', "#discovery", 2, 1, "no value but a comment", 'put quotes around text that begins with "#"'),
    (YAML, "courses/{course_key}/", "courses/{course_ky}/", 7, 11, "{course_ky} is not among its params", "did you mean 'course_key'?"),
]  # fmt: skip
OF_TEMPLATES: list[Mistake] = [
    (CARD, "data.title", "dta.title", 2, 1, "uses dta", "did you mean 'data'?"),
    (CARD, "data.title", "data.title|uper", 2, 1, "No filter named 'uper'", "did you mean 'upper'?"),
    (CARD, "{{ data.title }}", "{% fro x in data %}{% endfor %}", 2, 1, "unknown tag 'fro'", "did you mean 'for'?"),
    (CARD, "{{ data.title }}", '{% include "templates/pric.html" %}', 2, 1, "there is no template", "did you mean 'discovery/templates/price.html'?"),
    (PAGE, "block main", "block mian", 2, 1, "it has no block 'mian'", "did you mean 'main'?"),
    (PAGE, "default.html", "defalt.html", 1, 1, "there is no template", "did you mean 'site/layouts/default.html'?"),
]  # fmt: skip
OF_SLOTS: list[Mistake] = [
    (PAGE, "discovery/course-card", "discovery/course-crad", 3, 1, "no fragment discovery/course-crad", "did you mean 'discovery/course-card'?"),
    (PAGE, "discovery/list", "site/haeder", 4, 1, "no fragment site/haeder", "did you mean 'site/header'?"),
    (PAGE, "course_key=", "course_ky=", 3, 1, "no parameter course_ky", "did you mean 'course_key'?"),
    (PAGE, '"discovery/list"', '"discovery/list" reserv="9px"', 4, 1, "no parameter reserv", "did you mean 'reserve'?"),
    (PAGE, '"discovery/list"', '"discovery/list" timeout.totl="1s"', 4, 1, "not a policy key", "did you mean 'timeout.total'?"),
    (PAGE, '"discovery/list"', '"discovery/list" timeout.total="1"', 4, 1, "'1' is not a duration",
     "write a number and a unit, such as 250ms, 1.5s, 5m or 24h"),
    (PAGE, '"discovery/list"', '"discovery/list" load="lazy"', 4, 37, 'load="lazy" is not understood', "write stream or visible or client or click or none"),
    (PAGE, "{path.course_key}", "{path.key}", 3, 1, "refers to {path.key}", "it has {path.course_key}"),
]  # fmt: skip


def findings(root: Path, file: str = "", text: str = "", instead: str = "") -> list[Finding]:
    for name, content in FILES.items():
        assert name != file or text in content
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace(text, instead, 1) if name == file else content)
    return [*Registry(Settings(fragments=root), {}).load().findings]


def test_the_folder_is_well(tmp_path: Path) -> None:
    assert findings(tmp_path) == []


@pytest.mark.parametrize("mistake", [*OF_YAML, *OF_KEYS, *OF_TEMPLATES, *OF_SLOTS], ids=lambda each: each[2].strip())
def test_a_mistake_is_told_with_its_place_its_owner_and_its_remedy(tmp_path: Path, mistake: Mistake) -> None:
    file, text, instead, line, column, message, remedy = mistake
    found = [each for each in findings(tmp_path, file, text, instead) if remedy == each.remedy]
    assert len(found) == 1
    assert (found[0].file, found[0].line, found[0].column) == (str(tmp_path / file), line, column)
    assert message in found[0].message
    assert (found[0].context, found[0].owner) == ("discovery", "team-discovery")


def test_a_missing_file_names_the_one_that_was_probably_meant(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, YAML, "pages/course.html", "page/course.html")
    assert found.remedy == f"did you mean 'pages/course.html'? Else put it at {tmp_path}/discovery/page/course.html"


def test_a_template_that_two_fragments_share_is_told_of_once(tmp_path: Path) -> None:
    assert len(findings(tmp_path, CARD, "data.title", "dta.title")) == 1


@pytest.mark.parametrize(("line", "owner"), [("owner: 'team-a' # us", "team-a"), ("owner: [", ""), ("# none", "")])
def test_a_file_that_is_not_yaml_still_says_whose_it_is(tmp_path: Path, line: str, owner: str) -> None:
    (found,) = findings(tmp_path, YAML, "owner: team-discovery", f"{line}\n\tx")
    assert found.owner == owner
