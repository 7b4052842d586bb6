"""The layout that stands in where a page's own is missing, or lacks a block: blocks `title`, `head` and `main`. Text alone."""

from __future__ import annotations

from typing import Final

BUILT_IN: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{% block title %}{% endblock %}</title>
{% block head %}{% endblock %}
</head>
<body>
<main>
{% block main %}{% endblock %}
</main>
</body>
</html>
"""
