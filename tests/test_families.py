"""Which models are captioned in batches, and what is said of the others.

A small part of the matrix that `python -m tests.families` writes into docs/models.md.
"""

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from captioner.device.device import Device
from captioner.device.families import BATCHED, PREPARED_AHEAD, REFUSED, SHARED
from captioner.device.rows import Request
from captioner.errors import CheckpointError
from captioner.pictures.decoding import load_image
from captioner.settings import Settings
from tests.conftest import ROOT
from tests.families.cases import FAMILIES, NOT_TRIED, TEXT
from tests.families.checkpoint import Family, make_checkpoint, write
from tests.families.compare import PROMPT, TOKENS, answers, ours, pictures, theirs

pytestmark = pytest.mark.model
BY_NAME = {family.model_type: family for family in FAMILIES}


def made(name: str, folder: Path) -> Path:
    return make_checkpoint(BY_NAME[name], folder / name)


def saved_pictures(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(TOKENS))]
    for path, image in zip(paths, pictures(), strict=True):
        image.save(path)
    return paths


def captions(device: Device, paths: list[Path]) -> list[str]:
    """Of all the pictures at once, each with its own length, so that rows leave and join."""
    works = [
        device.begin(partial(load_image, path, 0), Request(PROMPT, None, tokens, 0.0))
        for path, tokens in zip(paths, TOKENS, strict=True)
    ]
    return [work.result().text for work in works]


def test_a_look_is_shared_where_pictures_are_prepared_ahead_and_batched() -> None:
    assert SHARED <= PREPARED_AHEAD & BATCHED  # a picture that cannot be prepared fails by itself


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_5"])
def test_questions_in_one_look_are_answered_as_they_are_one_by_one(
    name: str, tmp_path: Path
) -> None:
    directory = made(name, tmp_path)
    alone = answers(directory, 1, in_one_look=False)
    assert len({tuple(tokens) for each in alone for tokens in each}) > len(alone)
    assert answers(directory, 1, in_one_look=True) == alone
    assert answers(directory, 4, in_one_look=True) == alone


@pytest.mark.parametrize("name", ["qwen2_5_vl", "idefics3", "internvl_chat"])
def test_captions_are_those_of_mlx_vlm_also_in_a_batch(name: str, tmp_path: Path) -> None:
    directory = made(name, tmp_path)
    reference = theirs(directory, tmp_path)
    assert len({tuple(caption) for caption in reference}) >= 3  # the picture matters
    assert ours(directory, 1) == reference
    assert ours(directory, 4) == reference
    assert name in BATCHED


def test_a_family_that_keeps_the_positions_of_the_latest_picture_is_captioned_one_at_a_time(
    tmp_path: Path,
) -> None:
    directory = made("paddleocr_vl", tmp_path)
    paths = saved_pictures(tmp_path)
    with Device(directory, 4) as device:
        assert device.batch_size == 1
        together = captions(device, paths)
    with Device(directory, 1) as device:
        assert together == captions(device, paths)
    assert ours(directory, 4) != ours(directory, 1)  # or it could be one of those in batches


@pytest.mark.parametrize(
    ("name", "source", "threads"),
    [
        ("internvl_chat", "internvl_chat/processor.py", {"mlx-device"}),
        ("qwen2_5_vl", "qwen3_vl/processing_qwen3_vl.py", {"mlx-device", "prepare"}),
    ],
)
def test_a_processor_that_computes_in_mlx_does_so_on_the_devices_thread(
    name: str, source: str, threads: set[str], tmp_path: Path
) -> None:
    """Others prepare pictures ahead on a thread of their own; the trial at load is the device's."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.endswith(source) and code.co_name == "__call__":
            seen.add(threading.current_thread().name)

    directory = made(name, tmp_path)
    threading.setprofile(note)  # of threads that begin from now on
    try:
        with Device(directory, 4) as device:
            assert all(captions(device, saved_pictures(tmp_path)))
    finally:
        threading.setprofile(None)
    assert seen == threads


def test_what_cannot_be_captioned_with_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot caption a picture with .*llava.*'padding'"):
        Device(made("llava", tmp_path))
    text = make_checkpoint(Family("llama", TEXT), tmp_path / "llama")
    with pytest.raises(CheckpointError, match="it is a model for text, and takes no picture"):
        Device(text)
    moondream = tmp_path / "moondream2"
    moondream.mkdir()
    write(moondream / "config.json", {"model_type": "moondream2"})
    with pytest.raises(CheckpointError, match=r"MLX cannot load .*: mlx-vlm takes its tokenizer"):
        Device(moondream)


@pytest.mark.server
def test_the_terminal_says_what_becomes_of_a_family(folders: Settings, prefect_api: str) -> None:
    said = "Captioning one picture at a time, whatever --batch-size says: with a model"
    saved_pictures(folders.input_dir)
    directory = made("glm_ocr", folders.input_dir.parent)
    flags = {"input-dir": folders.input_dir, "output-dir": folders.output_dir, "model": directory}
    command = [sys.executable, "flows/caption_flow.py", "--batch-size=4", "--max-tokens=8"]
    run = subprocess.run(
        [*command, *(f"--{flag}={value}" for flag, value in flags.items())],
        cwd=ROOT,
        env=os.environ | {"PREFECT_API_URL": prefect_api},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count(said) == 1, run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert len(list(folders.output_dir.glob("[0-9].json"))) == 6


def test_the_page_names_every_family_that_is_known() -> None:
    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    batched = {line.split("`")[1] for line in text.splitlines() if "works, in batches too" in line}
    assert batched == BATCHED
    for name in (*BY_NAME, *REFUSED):
        assert f"`{name}`" in text
    for names, reason in NOT_TRIED.items():
        assert f"- {names}: {reason}." in text
