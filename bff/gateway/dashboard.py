"""`/_bff/admin/`: the operators' dashboard, a page without any data. Its script asks the API beside it, with the token it is given.

Knows nothing of what is shown: that is `static/dashboard.js`.
"""

from __future__ import annotations

from typing import Final

from bff.gateway.problems import Answer

_CSP: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_SHELL: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Gateway</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/_bff/static/dashboard.css">
<script type="module" src="/_bff/static/dashboard.js"></script>
</head>
<body>
<noscript>This page needs JavaScript. Without it: <code>bff explain</code>, <code>bff purge</code>, <code>bff override</code>.</noscript>
</body>
</html>
"""


def answer() -> Answer:
    """The shell, for anybody who asks."""
    head = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(_SHELL)),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", _CSP),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-opener-policy", b"same-origin"),
    ]
    return Answer(200, head, _SHELL)
