"""Turning sections into one HTML page: everything escaped, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from importlib import resources
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

TEMPLATES = ("page.html", "parts.html")


def render(content: dict[str, Any]) -> str:
    """The page.

    Args:
        content: what ``templates/page.html`` names.

    The style and the script stand in the page. Its content security policy lets the browser load
    pictures from beside it and nothing else, and run only that one script.
    """
    script = _template("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=DictLoader({name: _template(name) for name in TEMPLATES}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        **content,
        style=Markup(_template("style.css")),  # noqa: S704 - ours, without any data in it
        script=Markup(script),  # noqa: S704 - ours, without any data in it
        policy=policy,
    )
    return _apart(page)


def _apart(page: str) -> str:
    """The page with identifiers inside charts made different from those of every other chart."""
    count = itertools.count(1)

    def rename(chart: re.Match[str]) -> str:
        prefix = f"chart{next(count)}-"
        return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", chart[0])

    return re.sub(r'<svg class="chart".*?</svg>', rename, page, flags=re.DOTALL)


def _template(name: str) -> str:
    return (resources.files("volta3d.report") / "templates" / name).read_text(encoding="utf-8")
