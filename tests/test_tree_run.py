"""A tree of three levels through the real command, and what a browser shows of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from captioner.settings import DEFAULTS, Settings
from tests.browser import Browser
from tests.conftest import CHECKPOINT, ROOT, draw_picture
from tests.test_review import entry, reviewing

pytestmark = [pytest.mark.server, pytest.mark.model]

KEYS = ["top.png", "trip 2/1.png", "trip 2/day 9/1.png", "trip 2/day 10/1.png"]


class Tree:
    """The two folders, and a server that runs already."""

    def __init__(self, directory: Path, api: str) -> None:
        self.settings = Settings(input_dir=directory / "in", output_dir=directory / "out")
        self._environment = os.environ | {"PREFECT_API_URL": api}

    def run(self, *flags: str) -> list[str]:
        """The lines of the command, which ends well; those of the log without their times."""
        command = [sys.executable, "flows/caption_flow.py", str(self.settings.input_dir)]
        command += ["--output-dir", str(self.settings.output_dir), "--model", str(CHECKPOINT)]
        done = subprocess.run(
            [*command, "--max-tokens=24", *flags],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        return [line.partition(" - ")[2] if " - " in line else line for line in lines]


@pytest.fixture(scope="module")
def tree(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("tree"), prefect_api)


@pytest.fixture(scope="module")
def said(tree: Tree) -> Iterator[list[str]]:
    """What the command says of the tree."""
    folder = tree.settings.input_dir
    for key in (*KEYS, ".hidden/x.png"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        draw_picture(folder / key)
    (folder / "trip 2" / "day 9" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "round").symlink_to("trip 2")
    (folder / "trip 2" / "day 10" / "prompt.txt").write_text("Is {name} in {folder}?\n")
    yield tree.run("--recursive", "--export", "txt,jsonl")


def test_a_tree_is_captioned_by_the_command(tree: Tree, said: list[str]) -> None:
    folder, output = tree.settings.input_dir, tree.settings.output_dir
    assert f"INFO - Found 5 image(s) in {folder} and 3 folders below" in said
    assert "INFO - Ignored: 1 hidden; 1 link to a folder not followed" in said
    place = f"{folder}/trip 2/day 10/prompt.txt (“Is {{name}} in {{folder}}?”)"
    prompt = f"1 picture has the prompt of a folder: {place}; --user-prompt leaves it out"
    assert f"INFO - {prompt}" in said
    assert "INFO - [5/5] Processing trip 2/day 10/1.png..." in said
    assert "INFO - ✓ Saved caption to trip 2/day 10/1.json" in said
    assert any(line.startswith("WARNING - [4/5] Skipped trip 2/day 9/cut.jpg: ") for line in said)
    entries = json.loads((output / "captions.json").read_bytes())
    assert [entry["image"] for entry in entries] == KEYS
    own = "Is 1.png in trip 2/day 10?"
    assert [entry["prompt"] for entry in entries] == [*[DEFAULTS.user_prompt] * 3, own]
    for key, written in zip(KEYS, entries, strict=True):
        assert json.loads((output / key).with_suffix(".json").read_bytes()) == written
        assert (output / key).with_suffix(".txt").read_text() == written["caption"] + "\n"
    table = (output / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["file_name"] for line in table] == [f"../in/{key}" for key in KEYS]


def test_the_next_run_finds_it_done_and_one_without_the_flag_keeps_it(
    tree: Tree, said: list[str]
) -> None:
    planned = dict(line.split(maxsplit=1) for line in tree.run("--recursive", "--plan") if line)
    assert planned["Pictures"] == f"5 in {tree.settings.input_dir} and 3 folders below"
    assert planned["Skipped"] == "1"
    assert planned["Prompt"].startswith("1 picture has the prompt of a folder: ")
    assert planned["Prompt"].endswith("; --user-prompt leaves it out")
    assert planned["To"] == "caption  nothing"
    flat = tree.run()
    assert "INFO - 1 caption is up to date" in flat
    kept = "Kept: 3 captions of pictures that this run does not look for (trip 2/1.png, "
    assert any(line.startswith(f"INFO - {kept}") for line in flat)
    entries = json.loads((tree.settings.output_dir / "captions.json").read_bytes())
    assert [entry["image"] for entry in entries] == KEYS


@pytest.mark.browser
def test_the_gallery_shows_a_folder_of_it(tree: Tree, said: list[str]) -> None:
    with Browser(tree.settings.output_dir.as_uri()) as browser:
        page = browser.open("/index.html", "v1")
        folders = page.get_by_label("Folder")
        assert folders.locator("option").all_text_contents() == [
            *("all folders", "trip 2/", "trip 2/day 9/", "trip 2/day 10/"),
        ]
        folders.select_option("trip 2/")
        names = page.locator("#pictures h2")
        expect(page.locator("#count")).to_contain_text("3 of 4")
        assert names.all_text_contents() == KEYS[1:]
        folders.select_option("trip 2/day 10/")
        expect(names).to_have_text(KEYS[3:])
        expect(page.locator("#pictures img").first).not_to_have_js_property("naturalWidth", 0)
        page.locator(".picture").click()
        expect(page.locator("#large-picture")).to_have_js_property("naturalWidth", 192)
        browser.keep("gallery-tree")
        assert browser.errors == []


@pytest.mark.browser
def test_a_caption_of_it_is_corrected_in_a_review(tree: Tree, said: list[str]) -> None:
    with reviewing(tree.settings) as address, Browser(address.rstrip("/")) as browser:
        page = browser.open("/", "v1")
        page.get_by_label("Folder").select_option("trip 2/day 9/")
        page.locator(".picture").click()
        expect(page.locator("#large-picture")).to_have_js_property("naturalWidth", 192)
        page.get_by_label("Caption", exact=True).fill("Two boxes.")
        page.get_by_role("button", name="Save and next").click()
        expect(page.locator("#said")).to_have_text("Nothing here is left to review.")
    corrected = entry(tree.settings, "trip 2/day 9/1.json")
    assert (corrected["image"], corrected["caption"]) == (KEYS[2], "Two boxes.")
