"""Where a browser gets what a context names: its URLs, read back into the gateway's own. Pure."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from bff.model import Fragment
from bff.rules import redirects


def reached(stated: str, fragment: Fragment) -> str:
    """Where a browser gets what is at this URL: through a proxy route where one covers it, else as it is written."""
    upstream = fragment.upstream
    origin = f"{upstream.scheme}://{upstream.authority}"
    try:
        url = urlsplit(urljoin(f"{origin}{upstream.base}/", stated))
    except ValueError:
        return stated
    if f"{url.scheme}://{url.netloc}".lower() != origin.lower():
        return stated
    return redirects.back(url, fragment.grant) or (stated if stated.startswith("/") else url.path)
