"""The gallery of 10,000 pictures in headless Chromium: how soon it is open, and how evenly it
scrolls.

    python -m benchmarks.gallery [--pictures N] [--without-thumbnails]

Each picture has a file and a thumbnail of its own. "Open" counts from the address to the moment
when the count and the first pictures are on the screen. Scrolled is with a wheel, 120 pixels sixty
times a second; then by the End key until the last card is made. Frames are what
`requestAnimationFrame` tells.
"""

import argparse
import statistics
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from benchmarks.environment import this_machine
from captioner.pages.gallery import ASSETS, data, page
from captioner.pictures.thumbnail import thumbnail_of
from tests.browser import Browser

SIZE = (640, 426)  # of a picture
SMALL = "gallery/thumbnails"
DISTINCT = 500  # pictures; the others are further names of these
WHEEL, TURNS = 120, 300
WATCH = """() => {
    window.frames = [];
    let before = performance.now();
    const frame = (now) => {
        window.frames.push(now - before);
        before = now;
        window.watching = requestAnimationFrame(frame);
    };
    window.watching = requestAnimationFrame(frame);
}"""
IS_OPEN = """() => document.querySelector("#count").textContent
    && [...document.images].filter((i) => i.getBoundingClientRect().top < innerHeight)
        .every((i) => i.hidden || !i.src || i.complete && i.naturalWidth)"""


def make(folder: Path, pictures: int, thumbnails: bool) -> Path:
    """An output folder with so many captions; its page."""
    (folder / SMALL).mkdir(parents=True)
    (folder / "in").mkdir()
    for name in ASSETS:
        source = files("captioner.pages") / "assets" / name
        (folder / "gallery" / name).write_bytes(source.read_bytes())
    numbers = np.random.default_rng(1)
    entries = []
    for n in range(pictures):
        picture, thumbnail = (folder / place / f"{n}.jpg" for place in ("in", SMALL))
        if n < DISTINCT:
            small = numbers.integers(0, 255, (5, 8, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC)
            image.save(picture)
            thumbnail.write_bytes(thumbnail_of(image))
        else:  # under a name of its own, which the browser reads and decodes anew
            picture.hardlink_to(folder / "in" / f"{n % DISTINCT}.jpg")
            thumbnail.hardlink_to(folder / SMALL / f"{n % DISTINCT}.jpg")
        entry = {
            "name": f"folder {n % 40}/picture {n}.jpg",
            "state": "captioned",
            "text": f"Picture {n}. " + "A flowchart with several connected boxes. " * (1 + n % 6),
            "picture": f"in/{n}.jpg",
            "flags": ["truncated"] if n % 50 == 0 else [],
            "edited": n % 90 == 0,
            "new": n % 3 == 0,
            "at": "2026-11-28T10:00:00+00:00",
            "seconds": n % 17 / 3,
            "figures": {"Seen as": "640 × 426 pixels", "Image tokens": "266"},
        }
        if thumbnails:
            entry["thumbnail"] = f"{SMALL}/{n}.jpg"
        entries.append(entry)
    (folder / "gallery" / "data.js").write_text(data(entries))
    (folder / "index.html").write_text(page(Path("pictures"), f"{pictures} captioned"))
    return folder / "index.html"


def opened(page: Page, address: str) -> float:
    """Seconds until it can be looked at."""
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(IS_OPEN)
    return time.perf_counter() - began


def scrolled(page: Page) -> list[float]:
    """The milliseconds of each frame while a wheel turns."""
    page.mouse.move(600, 600)
    page.evaluate(WATCH)
    for _ in range(TURNS):
        page.mouse.wheel(0, WHEEL)
        page.wait_for_timeout(1000 / 60)
    return frames(page)


def to_the_end(page: Page, pictures: int) -> list[float]:
    """The same while every card is made, sixty at a time."""
    page.evaluate(WATCH)
    for _ in range(200 + pictures // 20):
        page.keyboard.press("End")
        page.wait_for_timeout(1000 / 60)
        if page.evaluate("() => added === shown.length"):
            break
    return frames(page)


def frames(page: Page) -> list[float]:
    """What was watched."""
    return [
        float(f) for f in page.evaluate("() => { cancelAnimationFrame(watching); return frames; }")
    ]


def described(times: list[float]) -> str:
    """In words."""
    times = sorted(times[1:])
    at = {share: times[int(len(times) * share)] for share in (0.95, 0.99)}
    late = sum(1 for t in times if t > 50)
    return (
        f"{len(times)} frames, median {statistics.median(times):.1f} ms, 95 % within "
        f"{at[0.95]:.1f} ms, 99 % within {at[0.99]:.1f} ms, longest {times[-1]:.0f} ms, "
        f"{late} longer than 50 ms"
    )


def main() -> None:
    """Make the folder, look at it, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--without-thumbnails", action="store_true")
    parser.add_argument("--runs", type=int, default=5, help="of opening; default: %(default)s")
    options = parser.parse_args()
    print(f"Machine: {this_machine().described()}")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        Browser("file:") as browser,
    ):
        made = make(Path(scratch), options.pictures, not options.without_thumbnails)
        opening = [opened(browser.page, made.as_uri()) for _ in range(options.runs)]
        print("open: " + ", ".join(f"{seconds:.2f}" for seconds in opening) + " s")
        print(f"wheel: {described(scrolled(browser.page))}")
        print(f"to the end: {described(to_the_end(browser.page, options.pictures))}")
        print(f"wheel there: {described(backwards(browser.page))}")
        print(f"search: {search(browser.page, options.pictures):.2f} s")


def backwards(page: Page) -> list[float]:
    """The wheel, the other way, with every card made."""
    page.evaluate(WATCH)
    for _ in range(TURNS):
        page.mouse.wheel(0, -WHEEL)
        page.wait_for_timeout(1000 / 60)
    return frames(page)


def search(page: Page, pictures: int) -> float:
    """Seconds from a word to what is found."""
    began = time.perf_counter()
    page.locator("#words").fill(f"picture {pictures - 1}.jpg")
    page.wait_for_function('() => document.querySelector("#count").textContent.startsWith("1 of")')
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
