"""The review of an output folder: the real command, and two windows of a real browser."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from captioner.asking.prompts import Prompts
from captioner.output.folder import OutputFolder
from captioner.output.planning import SENT_BACK
from captioner.output.reviews import REVIEWS, read_reviews
from captioner.pictures.scan import scan
from captioner.records import Recipe
from captioner.settings import Settings
from tests.browser import Browser
from tests.conftest import ROOT, draw_picture
from tests.finished import CAPTIONS, EDITED, FIELDS, finished


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return finished(tmp_path)


@contextmanager
def reviewing(settings: Settings) -> Iterator[str]:
    """The address of the review, served by the real command."""
    command = [sys.executable, "-m", "captioner.review", str(settings.output_dir), "--no-browser"]
    command += ["--input-dir", str(settings.input_dir)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.fullmatch(
            r"Review at (http://127\.0\.0\.1:\d+/[\w-]{32}/)\n", process.stdout.readline()
        )
        assert address
        try:
            yield address[1]
        finally:
            process.terminate()


def entry(settings: Settings, file: str) -> dict[str, str]:
    value: dict[str, str] = json.loads((settings.output_dir / file).read_text("utf-8"))
    return value


def enlarge(page: Page, name: str) -> None:
    item = page.locator("#pictures li").filter(
        has=page.get_by_role("heading", name=name, exact=True)
    )
    item.locator(".picture").click()


@pytest.mark.browser
def test_captions_are_corrected_accepted_sent_back_and_taken_back(settings: Settings) -> None:
    with reviewing(settings) as address, Browser(address.rstrip("/")) as browser:
        page = browser.open("/", "v1")
        enlarge(page, "a.png")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("Caption", exact=True)).to_have_value(CAPTIONS["a.png"])
        page.keyboard.press("e")
        dialog.get_by_label("Caption", exact=True).fill("By hand.")
        browser.keep("review")
        assert not [
            v
            for v in Axe().run(page).response["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        page.keyboard.press("ControlOrMeta+Enter")
        expect(dialog.get_by_role("heading")).to_have_text("b & <c>'\".jpg")  # the next
        assert entry(settings, "a.json") == {
            "image": "a.png",
            "prompt": "Describe it.",
            "caption": "By hand.",
            "fields": FIELDS["a.png"],
        }

        page.keyboard.press("a")
        expect(dialog.get_by_role("heading")).to_have_text("cut.png")
        page.keyboard.press("r")
        expect(dialog.get_by_role("heading")).to_have_text("ordner ü.png")
        page.keyboard.press("r")
        expect(dialog.locator("#said")).to_have_text("Nothing here is left to review.")
        page.keyboard.press("u")
        expect(dialog.locator("#said")).to_have_text("Taken back: ordner ü.png")
        verdicts = {
            key: review.verdict for key, review in read_reviews(settings.output_dir).items()
        }
        assert verdicts == {
            "a.png": "accepted",
            "b & <c>'\".jpg": "accepted",
            "cut.png": "again",
            "ordner ü.png": "open",
        }
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Not reviewed (1)")).to_be_visible()
        page.reload()
        expect(page.get_by_role("button", name="To be captioned again (1)")).to_be_visible()
        expect(page.locator("#busy")).to_be_visible()  # the run that was just now
        assert browser.errors == []
        assert browser.asked == []

    run = scan(settings.input_dir)
    with OutputFolder(settings.output_dir) as output:
        plan = output.plan(run, settings, Recipe.of(settings, "abc"), Prompts(settings).of)
    again = {job.picture.key: job.reason for job in plan.todo if job.picture.key in CAPTIONS}
    assert again == {"cut.png": SENT_BACK}
    assert set(plan.edited) == {"a.png", *EDITED}


@pytest.mark.browser
def test_two_windows_do_not_overwrite_each_other_in_silence(settings: Settings) -> None:
    with reviewing(settings) as address, Browser(address.rstrip("/")) as browser:
        first = browser.open("/", "v1")
        second = browser.window()
        second.goto(address)
        for page, words in ((first, "the first's"), (second, "the second's")):
            enlarge(page, "a.png")
            page.get_by_label("Caption", exact=True).fill(words)
        first.get_by_role("button", name="Save and next").click()
        expect(first.get_by_role("dialog").get_by_role("heading")).not_to_have_text("a.png")
        second.get_by_role("button", name="Save and next").click()
        expect(second.locator("#said")).to_contain_text("It now says: the first's")
        assert entry(settings, "a.json")["caption"] == "the first's"
        expect(second.get_by_label("Caption", exact=True)).to_have_value("the second's")
        second.get_by_role("button", name="Save and next").click()
        expect(second.get_by_role("dialog").get_by_role("heading")).not_to_have_text("a.png")
        assert entry(settings, "a.json")["caption"] == "the second's"


@pytest.mark.browser
def test_nothing_is_written_over_a_caption_that_is_not_shown_whole(settings: Settings) -> None:
    long = entry(settings, "a.json") | {"caption": "long words\n" * 20_000}
    with reviewing(settings) as address, Browser(address.rstrip("/")) as browser:
        page = browser.open("/", "v1")
        enlarge(page, "a.png")
        heading = page.get_by_role("dialog").get_by_role("heading")
        text = page.get_by_label("Caption", exact=True)
        text.fill("first")
        page.get_by_role("button", name="Save and next").click()
        expect(heading).not_to_have_text("a.png")
        page.keyboard.press("ArrowLeft")
        expect(heading).to_have_text("a.png")
        (settings.output_dir / "a.json").write_text(json.dumps(long))  # somebody else does
        text.fill("second")
        refused = re.compile(
            r"^Somebody else changed the caption of a\.png meanwhile\. "
            r"It is too long to be changed here, so yours is not saved\. It begins: long words"
        )
        for _ in range(2):
            page.get_by_role("button", name="Save and next").click()
            expect(page.locator("#said")).to_have_text(refused)
            page.locator("#said").evaluate("said => { said.textContent = ''; }")
        expect(heading).to_have_text("a.png")
        expect(text).to_have_value("second")
        page.get_by_role("button", name="Accept and next").click()
        expect(heading).not_to_have_text("a.png")
        assert read_reviews(settings.output_dir)["a.png"].verdict == "accepted"
        page.locator("#undo").click()
        expect(page.locator("#said")).to_have_text("Taken back: a.png")
        expect(text).not_to_be_editable()
        page.locator("#undo").click()  # of the first, which is not there any more
        expect(page.locator("#said")).to_have_text(refused)
        assert browser.errors == []
    assert entry(settings, "a.json") == long


@pytest.mark.browser
def test_what_a_browser_cannot_show_is_said_and_stays(settings: Settings) -> None:
    draw_picture(settings.input_dir / "cut.tiff").rename(settings.input_dir / "cut.png")
    # in a text field each of these ends of lines is \n
    captions = {"a": "1\r\n2", "b & <c>'\"": "1\r2", "cut": "word\r\n" * 50_000}
    files = [settings.output_dir / f"{stem}.json" for stem in captions]
    for file, caption in zip(files, captions.values(), strict=True):
        file.write_text(json.dumps(entry(settings, file.name) | {"caption": caption}))
    before = [file.read_bytes() for file in files]
    with reviewing(settings) as address, Browser(address.rstrip("/")) as browser:
        page = browser.open("/", "v1")
        enlarge(page, "a.png")
        heading = page.get_by_role("dialog").get_by_role("heading")
        page.keyboard.press("a")
        expect(heading).to_have_text("b & <c>'\".jpg")
        page.get_by_role("button", name="Save and next").click()
        expect(heading).to_have_text("cut.png")
        expect(page.locator("#large-format")).to_have_text(
            "Your browser cannot show the PNG itself: this is a JPEG of it."
        )
        expect(page.locator("#large-picture")).to_have_js_property("naturalWidth", 192)
        expect(page.locator("#large-cut")).to_have_text(
            "These are the first 100,000 of 300,000 characters: all of them are in cut.json."
        )
        text = page.get_by_label("Caption", exact=True)
        expect(text).not_to_be_editable()  # or what is not shown would be lost
        page.keyboard.press("a")
        expect(heading).to_have_text("ordner ü.png")
        expect(text).to_be_editable()
        expect(page.locator("#large-cut")).to_be_hidden()
        assert browser.errors == []
    assert [file.read_bytes() for file in files] == before
    assert [r.verdict for r in read_reviews(settings.output_dir).values()] == ["accepted"] * 3


def ask(address: str, body: object = None, **headers: str) -> int:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_only_this_machine_and_this_page_may_ask(settings: Settings) -> None:
    digest = "00"
    saving: dict[str, Any] = {"image": "a.png", "before": digest, "caption": "planted"}
    with reviewing(settings) as address:
        base, secret = address.rstrip("/").rsplit("/", 1)
        assert ask(address) == 200
        assert ask(f"{base}/") == 404
        assert ask(f"{base}/{'x' * len(secret)}/") == 404
        assert ask(address, Host="example.org") == 403
        assert ask(f"{address}save", saving) == 403  # no origin
        assert ask(f"{address}save", saving, Origin="http://example.org") == 403
        assert ask(f"{address}save", saving, Origin=base) == 409  # it says something else
        assert ask(f"{address}save", {**saving, "image": "../x"}, Origin=base) == 404
        assert ask(f"{address}save", {"image": 1}, Origin=base) == 400
        assert ask(f"{address}save", [], Origin=base) == 400
        assert (
            ask(f"{address}judge", {"image": "a.png", "verdict": "x", "digest": ""}, Origin=base)
            == 404
        )
        for path in (
            "picture/..%2f..%2fa.json",
            "picture/a.png",
            "thumbnail/a.png",
            "gallery/..%2fgallery.py",
            "provenance.jsonl",
        ):
            assert ask(address + path) == 404
        with urllib.request.urlopen(f"{address}gallery/data.js") as answer:
            first = json.loads(answer.read().splitlines()[1].rstrip(b","))
        with urllib.request.urlopen(address + first["thumbnail"]) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert answer.read().startswith(b"\xff\xd8")
        draw_picture(settings.input_dir / "a.png", "another one", (300, 200))
        assert ask(address + first["thumbnail"]) == 404  # it is not of what is there now
    assert entry(settings, "a.json")["caption"] == CAPTIONS["a.png"]
    assert not (settings.output_dir / REVIEWS).exists()


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [("empty", "holds no captions to review."), ("out", "None of the pictures is in nowhere; ")],
)
def test_what_cannot_be_reviewed_is_said(settings: Settings, folder: str, sentence: str) -> None:
    output = settings.output_dir.parent / folder
    output.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "captioner.review", str(output), "--input-dir", "nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_reviews_through_a_link_are_refused(settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    (settings.output_dir / REVIEWS).symlink_to(outside)
    command = [sys.executable, "-m", "captioner.review", str(settings.output_dir)]
    done = subprocess.run(
        [*command, "--input-dir", str(settings.input_dir), "--no-browser"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "reviews.jsonl cannot be read" in done.stderr
