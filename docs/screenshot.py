"""The picture of README and docs home, from a report: ``python docs/screenshot.py REPORT``.

Needs Chromium with its driver and the extra ``dev`` (selenium). Writes the top of the
page to ``docs/_static/report.png``.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

STATIC = Path(__file__).resolve().parent / "_static"
WIDTH, HEIGHT, SHOWN = 1280, 1000, 960  # pixels; the picture is shrunk to SHOWN
COLOURS = 128  # a page has few, and a palette makes the file small


def main(report: Path) -> None:
    """Write the picture."""
    page = Image.open(io.BytesIO(photograph(report / "index.html"))).convert("RGB")
    save(page, STATIC / "report.png")


def save(picture: Image.Image, path: Path) -> None:
    """Shrink to the width that is shown, with few colours."""
    height = round(picture.height * SHOWN / picture.width)
    small = picture.resize((SHOWN, height), Image.Resampling.LANCZOS)
    STATIC.mkdir(exist_ok=True)
    small.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)
    print(path, path.stat().st_size, "bytes")


def photograph(page: Path) -> bytes:
    """The top of a page in light colours, as a headless Chromium shows it."""
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.binary_location = "/usr/bin/chromium"
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(page.resolve().as_uri())
        taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    finally:
        driver.quit()
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
