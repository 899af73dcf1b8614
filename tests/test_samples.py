"""The sample pictures in `input/`, through the whole product: each caption says what is there."""

import json
from collections.abc import Callable

import pytest
from PIL import Image

from captioner.settings import Settings
from tests.conftest import ROOT, FlowRun

# what a person sees in each picture, in the order of the arrows
SEEN = {
    "diagram01.png": ["orange ellipse SEND", "blue box SORT", "orange diamond CLOSE"],
    "diagram02.jpg": [
        "orange diamond SPLIT",
        "purple ellipse READ",
        "red box STOP",
        "pink ellipse FILTER",
    ],
    "diagram03.png": ["blue hexagon END", "green diamond PLAN"],
    "diagram04.jpeg": [
        "green ellipse SORT",
        "grey box QUERY",
        "yellow parallelogram BUILD",
        "purple box CHECK",
        "yellow box SPLIT",
    ],
    "diagram05.png": ["grey diamond STOP", "purple hexagon CLOSE", "green box PLAN"],
    "diagram06.jpeg": [
        "green box CLEAN",
        "pink hexagon SEND",
        "purple box OUTPUT",
        "orange diamond STOP",
    ],
    "diagram07.jpg": [
        "blue ellipse PARSE",
        "orange ellipse INPUT",
        "orange diamond SEND",
        "pink parallelogram FETCH",
        "red diamond READ",
    ],
    "diagram08.png": ["blue ellipse BUILD", "purple box SPLIT"],
}


@pytest.mark.server
@pytest.mark.model
def test_the_samples_are_captioned_right_and_the_broken_one_is_skipped(
    run_flow: Callable[[Settings], FlowRun], folders: Settings
) -> None:
    run = run_flow(folders.model_copy(update={"input_dir": ROOT / "input", "max_tokens": 512}))
    assert run.state.message == f"{len(SEEN)} captioned, 1 skipped"
    assert run.task_runs["validate broken.png"] == "Skipped"
    captions = json.loads((folders.output_dir / "captions.json").read_bytes())
    assert [entry["image"] for entry in captions] == list(SEEN)
    for entry in captions:
        nodes = [
            node.removeprefix("a ").removeprefix("an ").replace(" labelled", "")
            for node in entry["caption"]
            .removesuffix(".")
            .split(": ")[1]
            .replace(" and a", ", a")
            .split(", ")
        ]
        assert nodes == SEEN[entry["image"]], entry["image"]


@pytest.mark.parametrize(
    ("name", "orientation", "transparent"),
    [("diagram06.jpeg", True, False), ("diagram05.png", False, True)],
)
def test_the_samples_have_a_rotated_and_a_transparent_one(
    name: str, orientation: bool, transparent: bool
) -> None:
    with Image.open(ROOT / "input" / name) as image:
        assert (image.getexif().get(0x0112, 1) != 1) is orientation
        assert image.has_transparency_data is transparent
