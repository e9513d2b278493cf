"""The viewer in a real browser: it loads late, moves by mouse and keyboard, and reads labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from volta3d.report.viewer import Overlay, Picture, write_viewer

if TYPE_CHECKING:
    from conftest import Browser

SHAPE = (20, 24, 16)
LEFT, RIGHT = (230, 159, 0), (0, 114, 178)


def until(ask: Callable[[], Any], *, seconds: float = 10.0) -> Any:
    """The first true answer, or the last one."""
    end = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < end:
        time.sleep(0.05)
    return answer


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan with truth and prediction; the patient's left half of it is brighter."""
    volume = np.full(SHAPE, 0.6, np.float32)
    volume[:10] = 0.9  # RAS: the first half along x is the patient's left
    volume[0], volume[:, :, 0] = 0, 0
    truth, guess = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    truth[5, 12, 8], truth[14, 12, 8], guess[6, 12, 8] = 1, 2, 1
    names = {1: ("left hippocampus", LEFT), 2: ("right hippocampus", RIGHT)}
    path = tmp_path_factory.mktemp("viewer") / "scan.html"
    overlays = [Overlay("Truth", truth, names), Overlay("Prediction", guess, names)]
    write_viewer(path, "Scan", [Picture("Scan", volume), Picture("Same", volume)], overlays)
    return path


@pytest.fixture
def viewer(browser: Browser, scan: Path) -> Browser:
    """The scan's page, ready."""
    browser.open(scan, width=960)
    assert until(lambda: browser.run("return document.body.dataset.ready"))
    return browser


def place(browser: Browser) -> list[int]:
    return list(browser.run("return ['X', 'Y', 'Z'].map(a => +document.getElementById(a).value)"))


def drawn(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('planes').toDataURL()"))


def here(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('here').textContent"))


def test_it_starts_in_a_label_and_names_it(viewer: Browser) -> None:
    assert place(viewer) in ([14, 12, 8], [5, 12, 8])  # 19 - 5, 19 - 14
    assert here(viewer) in ("At the cross: left hippocampus.", "At the cross: right hippocampus.")
    assert viewer.complaints() == []


def test_a_click_moves_the_other_planes(viewer: Browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    before, picture = place(viewer), drawn(viewer)
    canvas = viewer.driver.find_element(By.ID, "planes")
    ActionChains(viewer.driver).move_to_element_with_offset(canvas, 40, 30).click().perform()
    after = place(viewer)
    assert after != before and after[1] == before[1]  # a coronal slice moves X and Z
    assert drawn(viewer) != picture


def test_a_drag_ends_outside_the_slices(viewer: Browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    canvas = viewer.driver.find_element(By.ID, "planes")
    heading = viewer.driver.find_element(By.TAG_NAME, "h1")
    drag = ActionChains(viewer.driver).move_to_element(canvas).click_and_hold()
    drag.move_by_offset(30, 10).move_to_element(heading).release().perform()
    rested = place(viewer)
    ActionChains(viewer.driver).move_to_element_with_offset(canvas, -40, 20).perform()
    assert place(viewer) == rested


def test_arrow_keys_move_a_slice(viewer: Browser) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    before, picture = place(viewer), drawn(viewer)
    viewer.driver.find_element(By.ID, "Z").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert until(lambda: place(viewer) == [*before[:2], before[2] + 2])
    assert until(lambda: drawn(viewer) != picture)
    said = viewer.run("return document.getElementById('Z').getAttribute('aria-valuetext')")
    assert said == f"{before[2] + 3} / {SHAPE[2]}"


def test_the_prediction_takes_the_place_of_the_truth(viewer: Browser) -> None:
    viewer.run("document.querySelectorAll('input[name=overlay]')[1].click()")
    viewer.run(
        """const move = (id, v) => { const e = document.getElementById(id); e.value = v;
             e.dispatchEvent(new Event('input', { bubbles: true })); };
           move('X', 19 - 6); move('Y', 12); move('Z', 8);"""
    )
    assert until(lambda: here(viewer) == "At the cross: left hippocampus."), here(viewer)
    viewer.run("document.querySelectorAll('input[name=overlay]')[0].click()")
    assert until(lambda: here(viewer) == "At the cross: nothing."), here(viewer)


@pytest.mark.parametrize("convention", ["radiological", "neurological"])
def test_letters_and_pixels_agree_on_the_patients_right(
    browser: Browser, tmp_path: Path, convention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the head towards R, L, A, P, S or I is brighter: the edge with that letter must be."""
    monkeypatch.setenv("VOLTA3D_CONVENTION", convention)
    for number, (axis, letter, bright) in enumerate(
        [(0, "R", slice(10, None)), (0, "L", slice(10)), (1, "A", slice(12, None)),
         (1, "P", slice(12)), (2, "S", slice(8, None)), (2, "I", slice(8))]
    ):  # fmt: skip
        volume = np.full(SHAPE, 0.3, np.float32)
        np.moveaxis(volume, axis, 0)[bright] = 0.9
        volume[0, 0, 0], volume[-1, -1, -1] = 0, 1
        path = tmp_path / f"{number}.html"
        write_viewer(path, "Scan", [Picture("Scan", volume)], [])
        browser.open(path, width=960)
        assert until(lambda: browser.run("return document.body.dataset.ready"))
        planes = browser.run(
            """const c = document.getElementById('planes'), pen = c.getContext('2d'), written = [];
               pen.fillText = (text, x, y) => written.push([text, x, y]);
               document.getElementById('X').dispatchEvent(new Event('input', { bubbles: true }));
               return new Promise((done) => setTimeout(() => done([[20, 24, 16], written,
                 (() => { const [X, Y, Z] = [20, 24, 16], s = c.width / (Y + 2 * X), found = [];
                   let left = 0;
                   for (const [w, h] of [[Y, Z], [X, Z], [X, Y]]) {
                     const top = (c.height - h * s) / 2, at = (x, y) => pen.getImageData(
                       left + x * w * s, top + y * h * s, 1, 1).data[0];
                     found.push({ box: [left, top, w * s, h * s], left: at(.15, .3),
                       right: at(.85, .3), top: at(.3, .15), bottom: at(.3, .85) });
                     left += w * s;
                   }
                   return found; })()]), 300));"""
        )
        _, written, found = planes
        seen = 0
        for plane in found:
            x0, y0, width, height = plane["box"]
            letters = {}
            for text, x, y in written[-12:]:
                across, down = (x - x0) / width - 0.5, (y - y0) / height - 0.5
                if max(abs(across), abs(down)) <= 0.5:
                    side = ("right" if across > 0 else "left") if abs(across) > abs(down) else ""
                    letters[text] = side or ("bottom" if down > 0 else "top")
            assert len(letters) == 4
            if letter in letters:
                other = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
                side = letters[letter]
                assert plane[side] > plane[other[side]] + 60, (letter, plane, letters)
                seen += 1
        assert seen == 2


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_it_fits_and_reads_no_network(browser: Browser, scan: Path, width: int) -> None:
    browser.open(scan, width=width, dark=width == 820)
    assert until(lambda: browser.run("return document.body.dataset.ready"))
    assert browser.run("return document.documentElement.scrollWidth") <= width
    asked = [url for url in browser.requests() if not url.startswith("data:")]
    assert asked == [scan.as_uri()]
    assert browser.complaints() == []


def test_the_report_loads_it_when_it_is_unfolded(browser: Browser, page: Path) -> None:
    browser.open(page, width=1440)
    pages = sorted((page.parent / "viewer").glob("*.html"))
    assert pages
    assert not [url for url in browser.requests() if "/viewer/" in url]
    browser.run("document.querySelector('.view summary').click()")
    browser.run("document.querySelector('iframe').scrollIntoView()")
    browser.driver.switch_to.frame(0)
    assert until(lambda: browser.run("return document.body?.dataset.ready"))
    browser.driver.switch_to.default_content()
    asked = [url for url in browser.requests() if "/viewer/" in url]
    assert asked and asked[0].endswith("run1-scan-1.html")
    browser.run("document.querySelectorAll('.choices a')[1].click()")
    browser.driver.switch_to.frame(0)
    assert until(lambda: browser.run("return document.title").startswith("Scan 2"))
    browser.driver.switch_to.default_content()
    assert browser.complaints() == []
