"""Turning sections into one HTML page: everything escaped, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

TEMPLATES = ("page.html", "parts.html", "viewer.html")


def render(content: dict[str, Any]) -> str:
    """The page.

    Args:
        content: what ``templates/page.html`` names.

    The style and the script stand in the page. Its content security policy lets the browser load
    pictures from beside it and nothing else, and run only that one script.
    """
    script = _template("script.js")
    policy = _policy([script], "img-src 'self' file: data:; frame-src 'self' file:")
    page = (
        _environment()
        .get_template("page.html")
        .render(**content, style=_ours("style.css"), script=_ours("script.js"), policy=policy)
    )
    return _apart(page)


def render_viewer(content: dict[str, Any]) -> str:
    """The page of one scan.

    Args:
        content: what ``templates/viewer.html`` names.

    Its content security policy lets it load nothing at all, not even from beside it.
    """
    script = _template("viewer.js")
    return (
        _environment()
        .get_template("viewer.html")
        .render(
            **{**content, "parameters": Markup(content["parameters"])},  # noqa: S704 - numbers
            style=_ours("style.css") + _ours("viewer.css"),
            script=_ours("viewer.js"),
            policy=_policy([script], "img-src data:"),
        )
    )


def _environment() -> Environment:
    return Environment(
        loader=DictLoader({name: _template(name) for name in TEMPLATES}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _policy(scripts: Sequence[str], rest: str) -> str:
    """Nothing but what ``rest`` allows, styles in the page, and exactly these scripts."""
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; {rest}; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


def _ours(name: str) -> Markup:
    """A style or script of ours, which holds no data."""
    return Markup(_template(name))  # noqa: S704


def _apart(page: str) -> str:
    """The page with identifiers inside charts made different from those of every other chart."""
    count = itertools.count(1)

    def rename(chart: re.Match[str]) -> str:
        prefix = f"chart{next(count)}-"
        return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", chart[0])

    return re.sub(r'<svg class="chart".*?</svg>', rename, page, flags=re.DOTALL)


def _template(name: str) -> str:
    return (resources.files("volta3d.report") / "templates" / name).read_text(encoding="utf-8")
