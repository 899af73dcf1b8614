"""Pictures that nobody here drew, in a tree of three levels and in every format, through the real
command: every readable one has its caption, every other one its reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKPOINT, ROOT
from tests.public_pictures import STAMPS, SUFFIXES, make_tree

COUNT = 24  # of 796; `python -m tests.public_pictures` makes all of them


@pytest.mark.model
def test_every_readable_picture_has_its_caption_and_every_other_its_reason(
    tmp_path: Path, prefect_api: str
) -> None:
    if not STAMPS.is_dir():
        pytest.skip("needs Debian's tuxpaint-stamps-default")
    pictures, output = tmp_path / "in", tmp_path / "out"
    whole, cut = make_tree(pictures, COUNT)
    files = [path.relative_to(pictures) for path in pictures.rglob("*") if path.is_file()]
    assert {path.suffix[1:] for path in files} == set(SUFFIXES)
    assert max(len(path.parts) for path in files) == 3
    flags = {"input-dir": pictures, "output-dir": output, "model": CHECKPOINT, "formats": "all"}
    flags |= {"max-tokens": 2, "max-pixels": 16_384, "batch-size": 8}
    run = subprocess.run(
        [
            *(sys.executable, "flows/caption_flow.py", "--recursive", "--quiet"),
            *(f"--{name}={value}" for name, value in flags.items()),
        ],
        cwd=ROOT,
        env=os.environ | {"PREFECT_API_URL": prefect_api},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    summary = json.loads((output / "summary.json").read_text())
    skipped = {entry["image"]: entry["reason"] for entry in summary["skipped"]}
    assert (len(summary["captions"]), len(skipped), summary["failed"]) == (whole, cut, [])
    assert all(reason.startswith("damaged or unreadable") for reason in skipped.values())
    for entry in json.loads((output / "captions.json").read_text()):
        path = pictures / entry["image"]
        assert path.is_file() and entry["image"] not in skipped
        assert (output / entry["image"]).with_suffix(".json").is_file()
    thumbnails = list((output / "gallery" / "thumbnails").iterdir())
    assert len(thumbnails) == whole
