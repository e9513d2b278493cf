"""The documentation as ``make docs`` built it: nothing is fetched, nothing sticks out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Browser

BUILT = Path(__file__).resolve().parent.parent.parent / "docs" / "_build" / "html"
PAGES = ("index.html", "explanation/method.html", "reference/generated/configuration.html")


@pytest.mark.parametrize("name", PAGES)
def test_no_request_leaves_the_pages(browser: Browser, name: str) -> None:
    if not (BUILT / name).is_file():
        pytest.skip("the documentation is not built: make docs")
    browser.open(BUILT / name, width=390)
    asked = browser.requests()
    assert (BUILT / name).as_uri() in asked
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert browser.complaints() == []
    assert browser.run("return document.documentElement.scrollWidth") <= 390
