"""A headless Chromium, a report to open in it, and what the browser saw on the way."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from volta3d.report import report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip
HEIGHT = 1000


@dataclass
class Browser:
    """Chromium, and every request and console message since the last page was opened."""

    driver: Chrome

    def open(self, page: Path, *, width: int = 1440, dark: bool = False) -> None:
        """Load a page from disk at a width, in light or dark."""
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.media(dark=dark)
        metrics = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(page.as_uri())

    def media(self, *, dark: bool = False, kind: str = "") -> None:
        """The reader's colour scheme, and the medium: screen, or ``print``."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": kind, "features": [scheme]}
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script in the page returns."""
        return self.driver.execute_script(script, *arguments)  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """The addresses asked for since the page was opened."""
        messages = [json.loads(r["message"])["message"] for r in self.driver.get_log("performance")]
        return [
            m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What stands in the console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium with an empty profile for all tests of a process."""
    selenium = pytest.importorskip("selenium", reason="selenium is not installed (extra dev)")
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    assert selenium
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.get("about:blank")  # what a new tab asks for is not the report's doing
    yield Browser(driver)
    driver.quit()


def _fabricated() -> ModuleType:
    """What the tests of the report make their runs with."""
    path = Path(__file__).resolve().parent.parent / "report" / "conftest.py"
    spec = importlib.util.spec_from_file_location("fabricated_for_browser", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The front page of a report with everything in it, in a folder whose name needs escaping."""
    root = tmp_path_factory.mktemp("browser") / "a report #1"
    root.mkdir()
    made = _fabricated()
    run = made.write_run(root / "run")
    sex = made.write_classification(root / "sex")
    outlines = made.write_segmentation(root / "outlines")
    (root / "probes.json").write_text(json.dumps(made.probe_rows()))
    made.write_embeddings(root / "features.parquet", made.people())
    return report(
        [run, sex, outlines],
        root / "out",
        embeddings=root / "features.parquet",
        probes=root / "probes.json",
        cohort=made.write_small_cohort(root / "cohort"),
    )


@pytest.fixture
def shot(browser: Browser, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keeps a picture of the whole page where ``--screenshots FOLDER`` asks for it."""
    folder = request.config.getoption("--screenshots", default="")

    def keep(name: str) -> None:
        if folder:
            size = browser.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            taken = browser.driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
            )
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    return keep
