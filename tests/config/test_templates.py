"""`bff.config.templates`: layouts across contexts, whose failures harm nobody else; JSON templates that run no code."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from bff.config.layout import BUILT_IN
from bff.config.render import compile_template, show_date
from bff.config.templates import MAX_SHELL, shell_source
from bff.errors import Finding, TemplateFailed, TemplateSlow
from bff.model import Meta, Render

META = Meta(date="2026-11-24T10:00:00Z", as_of="2026-11-23T09:30:00Z")
LAYOUT = "<html><title>{% block title %}Site{% endblock %}</title>{% block main %}{% endblock %}</html>"


def write(root: Path, **files: str) -> None:
    """Files by name, `__` for a slash."""
    for name, text in files.items():
        file = root / f"{name.replace('__', '/')}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def shell(root: Path, text: str, **files: str) -> tuple[str, list[Finding]]:
    write(root, shop__pages__p=text, **files)
    source, findings = shell_source(root, "shop", "pages/p.html")
    return source.text, findings


def told(root: Path, findings: list[Finding]) -> list[tuple[str, int, str, str]]:
    return [(f.file.removeprefix(f"{root}/"), f.line, f.code, f.severity) for f in findings]


# --- shells -----------------------------------------------------------------------------------------------------------


def test_a_layout_of_another_context_is_extended(tmp_path: Path) -> None:
    page = '{% extends "site/layouts/d.html" %}{% block main %}<p>{path.x} é</p>{% endblock %}'
    text, findings = shell(tmp_path, page, site__layouts__d=LAYOUT)
    assert (text, findings) == ("<html><title>Site</title><p>{path.x} é</p></html>", [])


def test_names_are_relative_to_the_context_that_says_them(tmp_path: Path) -> None:
    text, findings = shell(
        tmp_path,
        '{% extends "layouts/own.html" %}{% block main %}{% include "pages/_part.html" %}{% endblock %}',
        shop__layouts__own='{% extends "site/layouts/d.html" %}{% block title %}{{ super() }} shop{% endblock %}',
        shop__pages___part="part",
        site__layouts__d=LAYOUT + '{% include "layouts/foot.html" %}{% include "site/layouts/foot.html" %}',
        site__layouts__foot="foot.",
        shop__layouts__foot="wrong",
    )
    assert findings == []
    assert text == "<html><title>Site shop</title>part</html>foot.foot."


def test_a_page_needs_no_layout_and_may_repeat_itself(tmp_path: Path) -> None:
    text, findings = shell(
        tmp_path, "{# note #}{% set n = 2 %}{% for _ in range(n) %}<i></i>{% endfor %}\n{% raw %}{{ }}{% endraw %}\n"
    )
    assert (text, findings) == ("<i></i><i></i>\n{{ }}\n", [])


def test_a_missing_layout_of_another_context_is_the_built_in_one(tmp_path: Path) -> None:
    page = '{#\n#}{% extends "site/layouts/d.html" %}{% block title %}T{% endblock %}{% block main %}M{% endblock %}{% block side %}S{% endblock %}'
    text, findings = shell(tmp_path, page)
    assert told(tmp_path, findings) == [("shop/pages/p.html", 2, "dangling", "warning")]
    assert "there is no template" in findings[0].message
    assert (findings[0].context, bool(findings[0].remedy)) == ("shop", True)
    assert "<title>T</title>" in text
    assert "<main>\nM\n</main>" in text
    assert text.startswith('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport"')


@pytest.mark.parametrize(
    "layout",
    [
        "{% block main %}{% endblok %}",
        "{{ nothing }}{% block main %}{% endblock %}",
        "{% include 'layouts/none.html' %}{% block main %}{% endblock %}",
        "{% extends 'layouts/none.html' %}{% block main %}{% endblock %}",
        "{% extends 'other/layouts/none.html' %}{% block main %}{% endblock %}",
        "{{ 1 // 0 }}{% block main %}{% endblock %}",
        "{% block main %}{% endblock %}\0",
    ],
)
def test_a_broken_layout_of_another_context_does_not_reject_the_page(tmp_path: Path, layout: str) -> None:
    text, findings = shell(
        tmp_path, '{% extends "site/layouts/d.html" %}{% block main %}M{% endblock %}', site__layouts__d=layout
    )
    assert told(tmp_path, findings) == [("shop/pages/p.html", 1, "dangling", "warning")]
    assert "<main>\nM\n</main>" in text


def test_a_layout_that_is_not_utf_8_is_a_broken_one(tmp_path: Path) -> None:
    write(tmp_path, site__layouts__d="")
    (tmp_path / "site/layouts/d.html").write_bytes(b"\xff")
    _, findings = shell(tmp_path, '{% extends "site/layouts/d.html" %}')
    assert "not UTF-8" in findings[0].message


def test_a_block_that_another_context_s_layout_lacks_is_dangling(tmp_path: Path) -> None:
    page = '{% extends "site/layouts/d.html" %}\n{% block main %}M{% endblock %}\n{% block side %}S{% endblock %}'
    text, findings = shell(tmp_path, page, site__layouts__d=LAYOUT)
    assert told(tmp_path, findings) == [("shop/pages/p.html", 3, "dangling", "warning")]
    assert "no block 'side'" in findings[0].message
    assert "<main>\nM\n</main>" in text


def test_a_block_within_a_block_is_the_page_s_own(tmp_path: Path) -> None:
    page = '{% extends "site/layouts/d.html" %}{% block main %}{% block inner %}I{% endblock %}{% endblock %}'
    assert shell(tmp_path, page, site__layouts__d=LAYOUT)[1] == []


def test_a_missing_include_of_another_context_is_left_out(tmp_path: Path) -> None:
    text, findings = shell(tmp_path, 'a{% include "site/layouts/none.html" %}b')
    assert (text, told(tmp_path, findings)) == ("ab", [("shop/pages/p.html", 1, "dangling", "warning")])


def test_two_missing_files_of_others_are_both_told(tmp_path: Path) -> None:
    text, findings = shell(tmp_path, 'a{% include "site/layouts/x.html" %}\n{% include "site/layouts/y.html" %}b')
    assert text == "a\nb"
    assert sorted(told(tmp_path, findings)) == [("shop/pages/p.html", line, "dangling", "warning") for line in (1, 2)]


@pytest.mark.parametrize(
    ("page", "files", "where", "says"),
    [
        ("a\n{% block x %}", {}, ("shop/pages/p.html", 2), "block"),
        ("a\n{% bloc x %}", {}, ("shop/pages/p.html", 2), "unknown tag"),
        ("a\n{{ request.path }}", {}, ("shop/pages/p.html", 2), "'request' is undefined"),
        ("a\n\n{{ 'x'|nothing }}", {}, ("shop/pages/p.html", 3), "nothing"),
        ("{{ ''.__class__.__mro__ }}", {}, ("shop/pages/p.html", 1), "unsafe"),
        ("{{ 'a' * 1000000000 }}", {}, ("shop/pages/p.html", 1), "small numbers"),
        ("{{ 9 ** 999999999 }}", {}, ("shop/pages/p.html", 1), "small numbers"),
        ("{{ '{:>999999999}'.format(1) }}", {}, ("shop/pages/p.html", 1), "small numbers"),
        ("{{ range(9)|batch(999999999, 'x')|list }}", {}, ("shop/pages/p.html", 1), "small numbers"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", {}, ("shop/pages/p.html", 1), "longer than 2 s"),
        ("{{ lipsum(n=9) }}", {}, ("shop/pages/p.html", 1), "lipsum"),
        ("\n{% include 'pages/none.html' %}", {}, ("shop/pages/p.html", 2), "no template 'shop/pages/none.html'"),
        ("{% extends 'layouts/own.html' %}", {}, ("shop/pages/p.html", 1), "no template"),
        ("{% extends 'layouts/own.html' %}", {"shop__layouts__own": "a\n{{ }}"}, ("shop/layouts/own.html", 2), "Expected an expression"),
        ("{% extends 'layouts/own.html' %}\n{% block x %}{% endblock %}", {"shop__layouts__own": ""}, ("shop/pages/p.html", 2), "no layout has a block 'x'"),
        ("{% include 'pages/p.html' %}", {}, ("shop/pages/p.html", 1), "recursion"),
        ("{% extends 'pages/p.html' %}", {}, ("shop/pages/p.html", 1), "recursion"),
        ("{% include '../site/layouts/d.html' %}", {"site__layouts__d": ""}, ("shop/pages/p.html", 1), "no template"),
        ("{% include '/etc/passwd' %}", {}, ("shop/pages/p.html", 1), "no template"),
        ("{% include 'site/pages/private.html' %}", {"site__pages__private": "secret"}, ("shop/pages/p.html", 1), "no template"),
        ("{% include 'site/layouts/../pages/private.html' %}", {"site__pages__private": "secret"}, None, "no template"),
        ("{% include 'pages/link.html' %}", {}, ("shop/pages/p.html", 1), "no template"),
    ],
)  # fmt: skip
def test_an_own_mistake_is_an_error_with_file_and_line(
    tmp_path: Path, page: str, files: dict[str, str], where: tuple[str, int] | None, says: str
) -> None:
    outside = tmp_path.parent / "outside.html"
    outside.write_text("secret")
    write(tmp_path, shop__pages__p="")
    (tmp_path / "shop/pages/link.html").symlink_to(outside)
    text, (finding,) = shell(tmp_path, page, **files)
    assert "secret" not in text
    assert says in finding.message
    if where is None:
        assert finding.code == "dangling"
        return
    assert text == ""
    assert (finding.file.removeprefix(f"{tmp_path}/"), finding.line, finding.severity) == (*where, "error")
    assert (finding.context, finding.code in {"template", "unknown-block"}) == ("shop", True)


def test_a_missing_shell_is_an_error(tmp_path: Path) -> None:
    source, (finding,) = shell_source(tmp_path, "shop", "pages/none.html")
    assert (source.text, finding.file) == ("", str(tmp_path / "shop/pages/none.html"))


def test_an_expansion_is_bounded(tmp_path: Path) -> None:
    text, (finding,) = shell(tmp_path, "{% for _ in range(99999) %}" + "x" * (MAX_SHELL // 90000) + "{% endfor %}")
    assert (text, "4 MiB" in finding.message) == ("", True)


def test_a_computed_name_is_as_confined_as_a_written_one(tmp_path: Path) -> None:
    text, findings = shell(tmp_path, '{% set x = "site/layouts/d.html" %}{% extends x %}', site__layouts__d="D")
    assert (text, findings) == ("D", [])


def test_slots_are_found_where_they_were_written(tmp_path: Path) -> None:
    write(
        tmp_path,
        shop__pages__p='{% extends "site/layouts/d.html" %}\n{% block main %}\n  <b>{{ 1 }}</b><x-1></x-1>{% include "pages/i.html" %}\n<x-2></x-2>{% endblock %}',
        shop__pages__i="\n\n   <x-3></x-3>",
        site__layouts__d="<p>\n  <x-4></x-4>{% block main %}{% endblock %}<x-5></x-5>\n",
    )
    source, findings = shell_source(tmp_path, "shop", "pages/p.html")
    assert findings == []
    found = {}
    for number in range(1, 6):
        before = source.text[: source.text.index(f"<x-{number}>")]
        file, line, column = source.at(before.count("\n") + 1, len(before) - before.rfind("\n"))
        found[number] = (file.removeprefix(f"{tmp_path}/"), line, column)
        assert Path(file).read_text().splitlines()[line - 1][column - 1 :].startswith(f"<x-{number}>")
    assert found == {
        1: ("shop/pages/p.html", 3, 17),
        2: ("shop/pages/p.html", 4, 1),
        3: ("shop/pages/i.html", 3, 4),
        4: ("site/layouts/d.html", 2, 3),
        5: ("site/layouts/d.html", 2, 44),
    }


def test_the_built_in_layout_is_a_document() -> None:
    for piece in (
        "<!doctype html>",
        'lang="en"',
        'charset="utf-8"',
        "width=device-width",
        "block title",
        "block head",
        "block main",
    ):
        assert piece in BUILT_IN


# --- JSON → HTML ------------------------------------------------------------------------------------------------------


def compiled(root: Path, text: str, **files: str) -> Render:
    write(root, shop__templates__t=text, **files)
    render, findings = compile_template(root, "shop", "templates/t.html")
    assert findings == []
    assert render is not None
    return render


def rendered(root: Path, text: str, data: Any = None, **params: Any) -> str:
    return compiled(root, text)(data, params, META, 1.0)


@pytest.mark.parametrize(
    ("text", "data", "html"),
    [
        ("{{ data.a }}", {"a": "<&\"'>"}, "&lt;&amp;&#34;&#39;&gt;"),
        ("{{ data.a|safe }}", {"a": "<b>"}, "<b>"),
        ("{{ data.a }}|{{ data.b.c.d }}|{{ data[3].x }}", {}, "||"),
        ("{{ data.a.b }}", {"a": None}, ""),
        ("{% for x in data.list %}{{ x }},{% endfor %}", {}, ""),
        ("{% for x in data.items %}{{ x }},{% endfor %}", {"items": [1, 2]}, "1,2,"),
        ("{% for k, v in data.items() %}{{ k }}{{ v }}{% endfor %}", {"a": 1}, "a1"),
        ("{{ data.count * 2 }} {{ data.keys|length }}", {"count": 2, "keys": "abc"}, "4 3"),
        ("{{ data[0].x }}", [{"x": 1}], "1"),
        ("{% if data.n > 3 %}{% set rest = 'r' %}{{ rest }}{% endif %}{{ rest }}", {"n": 4}, "rr"),
        ("{{ data.d|date }}", {"d": "2026-11-03"}, "3 November 2026"),
        ("é{{ 2 ** 3 }}", None, "é8"),
    ],
)
def test_json_becomes_html(tmp_path: Path, text: str, data: Any, html: str) -> None:
    assert rendered(tmp_path, text, data) == html


def test_parameters_and_meta_are_there(tmp_path: Path) -> None:
    text = "{{ params.page }} {{ meta.date }} {{ meta.as_of|date('%H:%M') }}"
    assert rendered(tmp_path, text, page=2) == "2 2026-11-24T10:00:00Z 09:30"


def test_own_templates_may_be_shared(tmp_path: Path) -> None:
    text = '{% from "templates/m.html" import card %}{% import "shop/templates/m.html" as m %}{{ card(data) }}{{ m.card(1) }}{% include "templates/i.html" %}'
    render = compiled(
        tmp_path, text, shop__templates__m="{% macro card(x) %}<{{ x }}>{% endmacro %}", shop__templates__i="{{ data }}"
    )
    assert render("&", {}, META, 1.0) == "<&amp;><1>&amp;"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a\n{{ data.", 2, "expected name"),
        ("a\n{{ dta.x }}\n{{ page }}", 2, "uses dta, page, and is given data, meta, params"),
        ("\n\n{{ data|nothing }}", 3, "nothing"),
        ("\n{% include 'templates/none.html' %}", 2, "no template 'shop/templates/none.html'"),
        ("\n{% include 'site/layouts/d.html' %}", 2, "no template 'shop/site/layouts/d.html'"),
        ("{% extends 'templates/broken.html' %}", 3, "unknown tag"),
    ],
)
def test_a_mistake_is_told_when_it_is_loaded(tmp_path: Path, text: str, line: int, says: str) -> None:
    write(tmp_path, shop__templates__t=text, site__layouts__d="", shop__templates__broken="\n\n{% x %}")
    render, (finding,) = compile_template(tmp_path, "shop", "templates/t.html")
    assert render is None
    assert (finding.line, finding.code, finding.context) == (line, "template", "shop")
    assert says in finding.message


def test_a_missing_template_is_told(tmp_path: Path) -> None:
    render, (finding,) = compile_template(tmp_path, "shop", "templates/none.html")
    assert render is None
    assert finding.file == str(tmp_path / "shop/templates/none.html")


@pytest.mark.parametrize(
    "text",
    [
        "{{ data.__class__ }}{{ data.__class__.__mro__ }}",
        "{{ data['__class__']['__mro__'] }}",
        "{{ data.append(1) }}",
        "{{ data|attr('__class__') }}{{ (data|attr('__class__')).x }}",
        "{% set x = [] %}{{ x.append(1) }}",
        "{{ 'x' * 99999999999 }}",
        "{{ [0] * 99999999999 }}",
        "{{ 9 ** 99999999999 }}",
        "{{ range(999999999) }}",
        "{{ data.nothing() }}",
        "{{ 1 / 0 }}",
        "{{ data + 1 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ data.x.y() }}",
    ],
)
def test_what_goes_wrong_in_a_template_is_one_exception_with_a_line(tmp_path: Path, text: str) -> None:
    render = compiled(tmp_path, "\n\n" + text)
    with pytest.raises(TemplateFailed, match=r"^shop/templates/t\.html:3: "):
        render([], {}, META, 1.0)


def test_a_failure_in_a_shared_template_names_it(tmp_path: Path) -> None:
    render = compiled(
        tmp_path,
        '{% from "templates/m.html" import m %}\n{{ m() }}',
        shop__templates__m="{% macro m() %}\n{{ 1 / 0 }}{% endmacro %}",
    )
    with pytest.raises(TemplateFailed, match=r"^shop/templates/m\.html:2: division"):
        render(None, {}, META, 1.0)


def test_data_cannot_be_changed(tmp_path: Path) -> None:
    data = {"a": [1]}
    render = compiled(tmp_path, "{{ data.a.append(2) }}")
    with pytest.raises(TemplateFailed):
        render(data, {}, META, 1.0)
    assert data == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "shown"), [("2026-11-24T23:00:00+01:00", "24 November 2026"), ("soon", "soon"), (None, None), (3, 3)]
)
def test_a_date_is_shown_or_left_alone(value: object, shown: object) -> None:
    assert show_date(value) == shown


# --- bounds -----------------------------------------------------------------------------------------------------------

ENDLESS = {
    "nested loops that write nothing": "{% for a in data %}{% for b in data %}{% for c in data %}{% endfor %}{% endfor %}{% endfor %}",
    "nested loops that write": "{% for a in data %}{% for b in data %}{% for c in data %}x{% endfor %}{% endfor %}{% endfor %}",
    "loops in a macro": "{% macro m(l) %}{% for a in l %}{% for b in l %}{% endfor %}{% endfor %}{% endmacro %}{% for a in data %}{{ m(data) }}{% endfor %}",
    "calls that double": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "ranges": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a recursive loop": "{% for a in data recursive %}{{ loop(data) if loop.depth < 9 }}{% endfor %}",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_a_render_ends_when_its_time_is_over(tmp_path: Path, text: str) -> None:
    render = compiled(tmp_path, text)
    with pytest.raises(TemplateSlow, match=r"shop/templates/t\.html takes longer than 0\.02 s"):
        render(list(range(3000)), {}, META, 0.02)


@pytest.mark.parametrize(
    "text",
    [
        '{{ "x".ljust(999999999) }}',
        '{{ "x".zfill(999999999) }}',
        '{{ (range(99)|join("{0}")).format(data) }}',
        '{{ "{:999999999}".format(1) }}',
        '{{ "%999999999d"|format(1) }}',
        '{{ "%.*f"|format(99999999, 1.5) }}',
        '{{ "%999999999d" % 1 }}',
        '{{ "%999999999d%s" % (1, 2) }}',
        '{{ "\t".expandtabs(999999999) }}',
        '{{ "{:>{}}".format(1, 999999999) }}',
        '{{ "{x:>999999999}".format_map({"x": 1}) }}',
        "{{ (1).to_bytes(999999999, 'big') }}",
        "{{ range(9)|batch(999999999, 'x')|list }}",
        "{{ range(9)|slice(999999999)|list }}",
        "{{ data|replace('x', data) }}",
        "{{ data.replace('x', data) }}",
        "{{ range(99999)|join(data) }}",
        "{{ data.join(data) }}",
        "{{ [{'a': data}, {'a': data}]|join('', attribute='a') ~ range(99999)|map('replace', '1', data)|join }}",
        "{% set y = range(99999)|map('replace', '1', data)|list %}",
        "{{ data|wordwrap(1, true, data) }}",
        "{{ data|wordwrap(1, wrapstring=data) }}",
        "{{ data|replace('x', '\\n')|indent(900) }}",
        "{{ 'http://a.example'|urlize(rel=data) }}",
        "{% set n = namespace(x=data) %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=data) %}{% for i in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for i in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=data) %}{% for i in range(40) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",
        "{% macro m(x, n) %}{% if n %}{{ m(x, n - 1) }}{{ m(x, n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{% set y = m(data, 40) %}",
        "{% macro m() %}{% for i in range(99999) %}" + "literal" * 999 + "{% endfor %}{% endmacro %}{% set y = m() %}",
        "{% set y %}{{ [data, [data] + [data], {'a': data}, {data: 1}]|batch(900)|list }}{% for i in range(99) %}{{ (data, [data]) }}{% endfor %}{% endset %}",
        "{% for a in range(40) %}{{ data }}{% endfor %}",
    ],
)
def test_a_digit_does_not_make_a_gigabyte(tmp_path: Path, text: str) -> None:
    render = compiled(tmp_path, text)
    tracemalloc.start()
    try:
        with pytest.raises(TemplateFailed, match=r"t\.html:1: "):
            render("x" * 500_000, {}, META, 10.0)
        assert tracemalloc.get_traced_memory()[1] < 200 * 1024**2
    finally:
        tracemalloc.stop()


def test_filters_within_reason_do_what_jinjas_do(tmp_path: Path) -> None:
    text = (
        "{{ [1, 2, 3]|batch(2, 'x')|list }} {{ [1, 2, 3]|slice(2)|list }} {{ data|replace('a', 'b', 1) }} {{ data.replace('a', 'b') }} "
        "{{ ['<', 2]|join(', ') }} {{ [{'a': 1}, {'a': 2}]|join('-', attribute='a') }} {{ '+'.join(['a', 'b']) }} {{ 'aa bb'|wordwrap(2, wrapstring='/') }} "
        "{{ {'a': [1]}|tojson(2) }} {{ 'http://a.example'|urlize(rel='me') }} {{ 'a' ~ 1 ~ data }} {{ '<' ~ 'b' }} {{ 1 + 2 }} {{ [1] + [2] }}"
    )
    assert compiled(tmp_path, text)("aa", {}, META, 1.0) == (
        "[[1, 2], [3, &#39;x&#39;]] [[1, 2], [3]] ba bb &lt;, 2 1-2 a+b aa/bb "
        '{"a": [1]} <a href="http://a.example" rel="me noopener">http://a.example</a> a1aa &lt;b 3 [1, 2]'
    )


def test_formats_within_reason_work(tmp_path: Path) -> None:
    text = '{{ "%.2f"|format(data) }} {{ "%d%%" % data }} {{ data % 4 }} {{ "%s-%s" % ("a", "b") }}{{ "x"|center(4000)|length }}{{ "a\nb"|indent(5000)|length }}'
    assert compiled(tmp_path, text)(7, {}, META, 1.0) == "7.00 7% 3 a-b10001003"


def test_texts_are_formatted_and_padded_as_python_does(tmp_path: Path) -> None:
    text = '{{ "{:,} {:>4}|{n:.1f}|{{}}".format(data, "x", n=2) }} {{ "7".zfill(3) }} {{ "7".rjust(2) }} {{ ("<{}>"|safe).format("<") }}'
    assert compiled(tmp_path, text)(12345, {}, META, 1.0) == "12,345    x|2.0|{} 007  7 <&lt;>"
