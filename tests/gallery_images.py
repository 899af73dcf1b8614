"""The pictures of docs/results.md: the gallery and the review of the pictures in input/.

    python -m tests.gallery_images docs/images

The embedded model captions them through the real command; Chromium looks at what comes out.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.browser import Browser
from tests.conftest import CHECKPOINT, ROOT

WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PICTURES_THERE = """() => [...document.images].every(
    (i) => i.hidden || !i.getAttribute("src") || i.complete && i.naturalWidth
        || i.getBoundingClientRect().top > innerHeight)"""


def keep(page: Page, path: Path) -> None:
    """What the page shows, as a small WebP."""
    page.wait_for_function(PICTURES_THERE)
    with tempfile.TemporaryDirectory() as scratch:
        shot = Path(scratch) / "shot.png"
        page.screenshot(path=shot)
        with Image.open(shot) as image:
            image.convert("RGB").save(path, quality=80, method=6)
    print(f"{path}: {path.stat().st_size:,} bytes")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output"
        flags = ["--input-dir", "input", "--output-dir", str(output), "--model", str(CHECKPOINT)]
        flow = [sys.executable, "flows/caption_flow.py", *flags]
        subprocess.run(flow, cwd=ROOT, check=True)
        os.utime(output / "provenance.jsonl", (1, 1))  # or it would say that a run is writing
        review = [sys.executable, "-m", "captioner.review", str(output), "--no-browser"]
        with (
            subprocess.Popen(review, cwd=ROOT, stdout=subprocess.PIPE, text=True) as serving,
            Browser(output.as_uri()) as browser,
        ):
            try:
                _look(browser, folder)
                assert serving.stdout is not None
                browser.page.goto(serving.stdout.readline().split()[-1])
                browser.page.locator(".picture").nth(1).click()
                browser.page.locator("#accept").wait_for()
                keep(browser.page, folder / "review.webp")
            finally:
                serving.terminate()


def _look(browser: Browser, folder: Path) -> None:
    for name, scheme, size in (
        ("gallery", "light", WIDE),
        ("gallery-dark", "dark", WIDE),
        ("gallery-phone", "light", PHONE),
    ):
        browser.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        browser.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        browser.open("/index.html", "v1")
        browser.page.locator("#pictures li").first.wait_for()
        keep(browser.page, folder / f"{name}.webp")
    browser.page.set_viewport_size({"width": WIDE["width"], "height": WIDE["height"]})


if __name__ == "__main__":
    main()
