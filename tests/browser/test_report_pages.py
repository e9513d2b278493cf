"""The report in a real browser: it loads from disk, asks for nothing, and fits every screen."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import pytest

if TYPE_CHECKING:
    from conftest import Browser

WIDTHS = (390, 820, 1440)  # a phone, a tablet, a desk


def outside(requests: list[str], folder: Path) -> list[str]:
    """Those addresses that are neither in the page itself nor in the report's folder."""
    kept = str(folder) + "/"
    return [
        url
        for url in requests
        if not url.startswith("data:")
        and not (url.startswith("file://") and unquote(urlparse(url).path).startswith(kept))
    ]


def test_S13_O3_no_request_leaves_and_the_console_is_silent(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    asked = browser.requests()
    assert page.as_uri() in asked  # the log works
    assert any(url.endswith(".png") for url in asked)
    assert outside(asked, page.parent) == []
    assert browser.complaints() == []


def test_every_picture_is_drawn(browser: Browser, page: Path) -> None:
    browser.open(page)
    broken = browser.run(
        "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    assert broken == []
    assert browser.run("return document.images.length") > 3


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_at_the_side(
    browser: Browser, page: Path, width: int, dark: bool, shot: Callable[[str], None]
) -> None:
    browser.open(page, width=width, dark=dark)
    shot(f"report-{width}-{'dark' if dark else 'light'}")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    wider = browser.run(
        """const clipped = e => { for (; e; e = e.parentElement) {
             if (['auto', 'hidden'].includes(getComputedStyle(e).overflowX)) return true; }
           return false; };
           return [...document.body.querySelectorAll('p, li, h1, h2, h3, h4, figure, nav, dl, svg')]
             .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !clipped(e))
             .map(e => e.tagName + ' ' + e.textContent.slice(0, 40));"""
    )
    assert wider == []


CONTRAST = """
const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const behind = e => { for (; e; e = e.parentElement) {
  const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
const seen = [];
const kinds = 'p, li, a, td, th, dt, dd, h1, h2, h3, h4, caption, svg text';
for (const e of document.querySelectorAll(kinds)) {
  if (!e.textContent.trim() || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  const ink = parse(e.closest('svg') ? style.fill : style.color);
  const [a, b] = [light(ink), light(behind(e))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < arguments[0]) seen.push([ratio.toFixed(2), e.tagName, e.textContent.slice(0, 40)]);
}
return seen;
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser: Browser, page: Path, dark: bool) -> None:
    """4.5 is what WCAG 2 level AA asks of text; labels in a line's own colour may have 3."""
    browser.open(page, dark=dark)
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == dark
    assert len(browser.run(CONTRAST, 22)) > 100  # nothing reaches 22: the check sees text
    faint = browser.run(CONTRAST, 4.5)
    assert [f for f in faint if f[1] != "text"] == []
    assert [f for f in faint if float(f[0]) < 3] == []


def test_the_keyboard_reaches_everything(browser: Browser, page: Path) -> None:
    """Tab goes first to the skip link, then visibly through every link, fold and table."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    wanted = browser.run(
        """const kinds = 'a[href], summary, [tabindex], input, button, iframe';
           const folded = 'details:not([open]) > :not(summary)';
           return [...document.querySelectorAll(kinds)]
             .filter(e => e.getClientRects().length && !e.closest(folded)).length"""
    )
    reached, invisible = set(), []
    for press in range(wanted + 40):  # those inside the viewer's frame come on top
        ActionChains(browser.driver, duration=0).send_keys(Keys.TAB).perform()
        found = browser.run(
            """const e = document.activeElement, s = getComputedStyle(e);
               const all = [...document.querySelectorAll('*')];
               return [all.indexOf(e), e.tagName, e.className, parseFloat(s.outlineWidth),
                       s.outlineStyle];"""
        )
        if found[1] == "BODY":
            break
        if press == 0:
            assert found[2] == "skip"
        reached.add(found[0])
        if found[1] != "IFRAME" and (found[4] == "none" or found[3] < 1):
            invisible.append(found)
    assert len(reached) >= wanted
    assert invisible == []


def test_a_screen_reader_finds_its_way(browser: Browser, page: Path) -> None:
    browser.open(page)
    levels = browser.run(
        "return [...document.querySelectorAll('h1, h2, h3, h4, h5')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))  # none is skipped
    unnamed = browser.run(
        """return [...document.querySelectorAll('img, svg, iframe, [role=region], nav')]
             .filter(e => !(e.alt || e.title || e.getAttribute('aria-label'))).length"""
    )
    assert unnamed == 0
    lost = browser.run(
        """return [...document.querySelectorAll('a[href^="#"]')]
             .map(a => a.getAttribute('href').slice(1))
             .filter(id => !document.getElementById(id))"""
    )
    assert lost == []
    assert browser.run("return document.documentElement.lang") == "en"


def test_paper_gets_ink_on_white_with_everything_unfolded(browser: Browser, page: Path) -> None:
    browser.open(page, dark=True)
    browser.media(dark=True, kind="print")
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    ink = browser.run("return getComputedStyle(document.body).color")
    assert sum(map(int, ink[4:-1].split(","))) < 200
    browser.run("dispatchEvent(new Event('beforeprint'))")
    folded = "return document.querySelectorAll('details:not([open]):not(.view)').length"
    assert browser.run(folded) == 0  # paper has no use for the viewer
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.querySelectorAll('details[open]').length") == 0


def test_it_prints_on_pages(browser: Browser, page: Path) -> None:
    """Chromium's own PDF: A4, more than a page, and not of only one line each."""
    import base64

    browser.open(page)
    made = browser.driver.execute_cdp_cmd(
        "Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
    )
    pdf = base64.b64decode(made["data"])
    pages = pdf.count(b"/Type /Page\n") or pdf.count(b"/Type /Page ")
    assert pdf.startswith(b"%PDF") and 2 <= pages <= 40
