"""index.html of an output folder, opened from the file system in a real browser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from captioner.output.results import results
from captioner.pages.gallery import about, data
from captioner.settings import Settings
from tests.browser import Browser
from tests.conftest import draw_picture
from tests.finished import CAPTIONS, finished

pytestmark = pytest.mark.browser
NOT_SHOWN = (
    "The picture is not there any more, is damaged, or is in a format "
    "that your browser does not show"
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return finished(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def browser(settings: Settings) -> Iterator[Browser]:
    with Browser(settings.output_dir.as_uri()) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Page:
    browser.page.set_viewport_size({"width": 1280, "height": 900})
    page = browser.open("/index.html", "v1")
    expect(page.locator("#pictures li").first).to_be_visible()
    return page


def names(page: Page) -> list[str]:
    return page.locator("#pictures h2").all_text_contents()


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['help']}" for v in found if v["impact"] in ("serious", "critical")]


def test_every_picture_is_there_with_its_caption_as_text(page: Page, browser: Browser) -> None:
    assert names(page) == [*list(CAPTIONS)[:3], "failed.png", "ordner ü.png", "skipped.png"]
    texts = page.locator("#pictures .text > p").all_text_contents()
    assert texts[0] == CAPTIONS["a.png"]
    assert texts[1] == CAPTIONS["b & <c>'\".jpg"]
    assert texts[3] == "the <b>device</b> said no"
    assert texts[4] == "Eine Kiste"
    images = page.locator("#pictures img")
    alts = [image.get_attribute("alt") for image in images.all()[:3]]
    assert alts == ["A sheet of numbers", '<b onmouseover="alert(2)">Ω</b>', CAPTIONS["cut.png"]]
    fields = page.locator("#pictures .fields")
    assert fields.nth(0).locator("dd").all_text_contents() == [
        *("A sheet\nof numbers", "=1+1, sheet", "0"),
    ]
    assert fields.nth(1).locator("dt").nth(2).text_content() == "mood & <i>"
    assert fields.nth(1).locator("dd").nth(2).text_content() == '{"is": ["calm", 0.5]}'
    expect(images.nth(1)).to_have_js_property("naturalWidth", 192)
    assert browser.errors == []
    assert page.locator("#pictures script").count() == 0


def test_thumbnails_are_shown_and_whatever_a_browser_does_not_show_has_one_in_its_place(
    page: Page, settings: Settings, browser: Browser
) -> None:
    image = page.locator("#pictures img").first
    assert "gallery/thumbnails/" in (image.get_attribute("src") or "")
    data_file = settings.output_dir / "gallery" / "data.js"
    before = data_file.read_bytes()
    (settings.output_dir / "a.heic").write_bytes(b"what no Chromium shows")
    try:
        text = before.decode().replace("../in/a.png", "a.heic", 1)
        cut = text.rindex("gallery/thumbnails/")
        data_file.write_text(text[:cut] + "gallery/thumbnails/gone" + text[cut + 20 :])
        page.reload()
        page.locator(".picture").first.click()
        expect(page.locator("#large-picture")).to_have_attribute("src", re.compile("/thumbnails/"))
        expect(page.locator("#large-picture")).not_to_have_js_property("naturalWidth", 0)
        expect(page.locator("#large-format")).to_have_text(
            f"{NOT_SHOWN}: this is its small picture."
        )
        page.keyboard.press("ArrowRight")
        expect(page.locator("#large-format")).to_be_hidden()
        page.keyboard.press("Escape")
        # a thumbnail that is not there: the picture itself
        page.locator("#pictures li").nth(4).scroll_into_view_if_needed()
        gone = page.locator("#pictures img").nth(4)
        expect(gone).to_have_attribute("src", re.compile(r"\.png$"))
        expect(gone).to_have_js_property("naturalWidth", 192)
    finally:
        data_file.write_bytes(before)
        (settings.output_dir / "a.heic").unlink()


def test_the_browser_is_not_blamed_for_pictures_that_are_damaged_or_gone(
    page: Page, settings: Settings
) -> None:
    path = settings.input_dir / "ordner ü.png"
    moved = path.rename(settings.input_dir.parent / "moved.png")
    try:
        page.reload()
        page.locator(".picture").nth(4).click()
        expect(page.locator("#large-format")).to_have_text(
            f"{NOT_SHOWN}: this is its small picture."
        )
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("skipped.png")
        expect(page.locator("#large-format")).to_have_text(f"{NOT_SHOWN}.")
    finally:
        moved.rename(path)


def test_search_filters_and_order(page: Page) -> None:
    page.get_by_label("Search").fill("KISTE")
    expect(page.locator("#count")).to_have_text("1 of 6 pictures")
    assert names(page) == ["ordner ü.png"]
    page.get_by_label("Search").fill("calm")
    expect(page.locator("#count")).to_have_text("1 of 6 pictures")  # in a field
    page.get_by_label("Search").fill("")
    kinds = {"Flagged (1)": ["cut.png"], "Edited (1)": ["ordner ü.png"]}
    kinds |= {"Skipped (1)": ["skipped.png"], "Failed (1)": ["failed.png"]}
    for title, expected in kinds.items():
        page.get_by_role("button", name=title).click()
        expect(page.locator("#count")).to_have_text("1 of 6 pictures")
        assert names(page) == expected
    page.get_by_role("button", name="New in this run (4)").click()
    page.get_by_label("Order").select_option("short")
    assert names(page)[:2] == ["ordner ü.png", "cut.png"]


def test_by_keyboard_a_picture_is_enlarged_and_its_caption_copied(
    page: Page, browser: Browser
) -> None:
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    first = page.locator(".picture").first
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("a.png")
    expect(dialog.locator("#large-figures")).to_contain_text("Seconds on the device2.50")
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).to_have_text("b & <c>'\".jpg")
    expect(dialog.locator("#large-fields")).to_contain_text("alt_text<b onmouseover")
    browser.keep("gallery-large")
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("#large-figures")).to_contain_text(
        "Banned phrases in itwas <cut>, caption"
    )
    page.keyboard.press("ArrowLeft")
    dialog.get_by_role("button", name="Copy caption").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_label("Search").focus()
    page.keyboard.press("ControlOrMeta+V")
    expect(page.get_by_label("Search")).to_have_value(CAPTIONS["b & <c>'\".jpg"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_used_without_seeing_it(page: Page, browser: Browser, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    browser.keep(f"gallery-{scheme}")
    assert serious(page) == []
    page.locator(".picture").first.click()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.emulate_media(color_scheme="light")


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page, browser: Browser) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    browser.keep("gallery-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert serious(page) == []


def test_nothing_planted_in_the_page_runs(page: Page) -> None:
    added = page.evaluate(
        """() => new Promise((resolve) => {
            const script = document.createElement("script");
            script.textContent = "window.planted = true";
            document.body.append(script);
            const image = document.createElement("img");
            image.setAttribute("onerror", "window.planted = true");
            image.src = "nowhere.png";
            document.body.append(image);
            setTimeout(() => resolve(window.planted === undefined), 300);
        })"""
    )
    assert added


def test_of_ten_thousand_pictures_only_those_near_the_screen_are_made(
    tmp_path: Path, settings: Settings, browser: Browser
) -> None:
    many = tmp_path / "many"
    (many / "gallery").mkdir(parents=True)
    for name in ("index.html", "gallery/gallery.css", "gallery/gallery.js"):
        (many / name).write_bytes((settings.output_dir / name).read_bytes())
    draw_picture(many / "p.png")
    entry = {"state": "captioned", "text": "A box.", "picture": "p.png", "flags": []}
    folders = [f"f{number % 7}/" for number in range(10_000)]
    (many / "gallery" / "data.js").write_text(
        data(entry | {"name": f"{folder}p{n}.png"} for n, folder in enumerate(folders))
    )
    page = browser.page
    page.goto((many / "index.html").as_uri())
    expect(page.locator("#count")).to_have_text("10,000 pictures")
    assert page.locator("#pictures li").count() < 300
    page.get_by_label("Search").fill("p9999.png")
    expect(page.locator("#count")).to_have_text("1 of 10,000 pictures")
    page.get_by_label("Search").fill("")
    page.get_by_label("Folder").select_option("f3/")
    expect(page.locator("#count")).to_have_text("1,429 of 10,000 pictures")
    cards = page.locator("#pictures li")
    for _ in range(3):
        before = cards.count()
        for _ in range(50):  # what comes near is laid out, and the end is further off than it was
            page.locator("#end").scroll_into_view_if_needed()
            if cards.count() > before:
                break
            page.wait_for_timeout(100)
        assert before < cards.count() < 600


def test_a_browser_gets_no_more_than_it_can_show(settings: Settings) -> None:
    path = settings.output_dir / "a.json"
    before = path.read_bytes()
    long = "word " * 200_000
    entry = {"image": "a.png", "prompt": long, "caption": long}
    path.write_text(json.dumps(entry | {"fields": {"alt_text": long, "more": [long], long: 1}}))
    try:
        (result,) = (each for each in results(settings.output_dir) if each.key == "a.png")
    finally:
        path.write_bytes(before)
    shown = about(result)
    assert len(data([shown])) < 150_000
    assert shown["text"] == long[:100_000]
    assert shown["cut"] == (
        "These are the first 100,000 of 1,000,000 characters: all of them are in a.json."
    )
    assert shown["fields"]["more"].endswith("word… (1,000,000 characters in all)")
    assert len(shown["alt"]) < 2_100


def test_the_data_is_json_whatever_a_caption_says() -> None:
    hostile = {"text": "</script>\u2028\ud800`${x}`"}
    lines = data([hostile]).splitlines()
    assert json.loads(lines[1]) == hostile
    assert lines[1].isascii()
