"""An input folder that means harm, or lies on a disk that breaks, captioned by the real command.

Each test is named after a row of the second round on faults and hostile input.
"""

import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from captioner.asking.prompts import Prompts
from captioner.checkpoint.find import known_revision
from captioner.errors import CaptionError, UnreadableImage
from captioner.output.folder import OutputFolder
from captioner.pages.report import FIRST_PICTURES
from captioner.pictures.decoding import load_image
from captioner.pictures.files import MAX_FILE_BYTES
from captioner.pictures.formats import PNG_SIGNATURE
from captioner.pictures.reading import validate
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.plan import Plan
from captioner.records import Job, Picture, Recipe, Skipped
from captioner.settings import Settings
from tests.checking import check_image
from tests.conftest import ROOT, draw_picture
from tests.faulty_disk import faulty_disk

OUT_OF_THE_FOLDER = "a link that leads out of the folder"
MANY = 44  # so many that the last ones are not validated when the first one is saved
# in the run's own process: when the first caption is saved, somebody else changes the folder;
# and each opening of a picture is noted
MEANWHILE = """
import os, sys
from pathlib import Path

folder, secret = Path(os.environ["FOLDER"]), os.environ["SECRET"]
log = os.open(folder.parent / "opened", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        name = os.path.basename(os.fsencode(arguments[0]))
        if name.startswith(b"p") and name.endswith((b".png", b".jpg")):
            os.write(log, name + b"\\n")
    if event == "os.rename" and os.fsdecode(arguments[1]).endswith("p1.json"):
        for name in ("p43.png", "p44.png"):
            (folder / name).unlink(missing_ok=True)
        if not (folder / "p43.png").exists():
            (folder / "p43.png").symlink_to(secret)
            os.mkfifo(folder / "p44.png")

sys.addaudithook(watch)
"""


def job(path: Path) -> Job:
    return Job(Picture(path.name, path.parent), "a.json", 1, 1)


def lossless_jpeg(values: npt.NDArray[np.uint8]) -> bytes:
    """Greys as a JPEG of process 14, each predicted by the one before it (ITU-T T.81, annex H)."""
    height, width = values.shape
    flat = values.astype(int)
    before = np.roll(flat, 1, axis=1)
    before[1:, 0], before[0, 0] = flat[:-1, 0], 128
    bits = ""
    for difference in (flat - before).ravel().tolist():
        size = abs(difference).bit_length()
        bits += f"{size:04b}"  # a Huffman code of four bits for each of nine sizes
        if size:
            bits += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    return b"".join(
        (
            b"\xff\xd8",
            segment(0xC3, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"),
            segment(0xC4, b"\0" + bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))),
            segment(0xDA, b"\1\1\0\1\0\0"),
            data + b"\xff\xd9",
        )
    )


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.write(PNG_SIGNATURE)
        file.truncate(size)
    return path


def header_only(path: Path, side: int) -> Path:
    """A JPEG that says that it has that many pixels a side."""
    Image.new("L", (8, 8)).save(path)
    data = path.read_bytes()
    start = data.index(b"\xff\xc0") + 5
    path.write_bytes(data[:start] + struct.pack(">HH", side, side) + data[start + 4 :])
    return path


@dataclass(frozen=True)
class Aftermath:
    """What a run over such a folder left."""

    code: int
    errors: str
    summary: dict[str, Any]
    recorded: dict[str, dict[str, Any]]  # the last line of provenance.jsonl of each picture
    next: Plan  # of the next run, on a disk that reads
    opened: list[str]  # a name each time a picture was opened

    def skipped(self) -> dict[str, str]:
        return {entry["image"]: entry["reason"] for entry in self.summary["skipped"]}


@pytest.fixture(scope="module")
def after(
    prefect_api: str, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Aftermath:
    top = tmp_path_factory.mktemp("pictures")
    folder, output, hooks = top / "in", top / "out", top / "hooks"
    folder.mkdir()
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(MEANWHILE)
    for number in range(1, MANY + 1):
        draw_picture(folder / f"p{number}.png", f"P{number}", (64, 48))
    greys = np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)
    (folder / "p3.jpg").write_bytes(lossless_jpeg(greys))
    sparse(folder / "p4.png", 20 << 30)
    Image.new("1", (20_000, 20_000)).save(folder / "p5.png")
    header_only(folder / "p6.jpg", 65_500)
    secret = draw_picture(top / "secret.png", "SECRET")
    command = [sys.executable, "flows/caption_flow.py", "--input-dir", str(folder)]
    command += ["--output-dir", str(output), "--model", str(tiny_checkpoint), "--max-tokens=4"]
    given = os.environ | {"PREFECT_API_URL": prefect_api}
    paths = f"{hooks}{os.pathsep}{given['PYTHONPATH']}"
    bad = faulty_disk(top) | {"PYTHONPATH": paths, "FOLDER": str(folder), "SECRET": str(secret)}
    run = subprocess.run(
        command, cwd=ROOT, env=given | bad, capture_output=True, text=True, timeout=200
    )
    lines = [json.loads(line) for line in (output / "provenance.jsonl").read_text().splitlines()]
    settings = Settings(input_dir=folder, output_dir=output, model=tiny_checkpoint, max_tokens=4)
    recipe = Recipe.of(settings, known_revision(settings))
    return Aftermath(
        run.returncode,
        run.stderr,
        json.loads((output / "summary.json").read_bytes()),
        {line["image"]: line for line in lines},
        OutputFolder(output).plan(scan(folder), settings, recipe, Prompts(settings).of),
        (top / "opened").read_text().split(),
    )


@pytest.mark.server
def test_row_2_a_disk_that_does_not_read_is_a_failure_of_this_run(after: Aftermath) -> None:
    said = "No caption for p2.png: cannot be read: Input/output error; the next run tries again"
    assert after.code == 1, after.errors
    assert said in after.errors
    assert "Traceback" not in after.errors
    assert "The report is not shown" not in after.errors  # it does without that thumbnail
    assert "p2.png" not in after.skipped() | after.recorded
    # the next run has it to do as one that was never tried, and nothing else
    assert [(job.picture.key, job.reason) for job in after.next.todo] == [("p2.png", None)]


def test_row_2_too_little_memory_is_a_failure_of_this_run(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (12_000, 12_000)).save(path, compress_level=1)
    script = """
import resource, sys
from pathlib import Path
from captioner.errors import CaptionError, UnreadableImage
from captioner.pictures.reading import validate
from captioner.records import Job, Picture
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (60 << 20),) * 2)
path = Path(sys.argv[1])
try:
    validate(Job(Picture(path.name, path.parent), "a.json", 1, 1))
except UnreadableImage:
    raise
except CaptionError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ("there is not enough memory to decode it now\n", "")


@pytest.mark.server
def test_each_picture_is_opened_once(after: Aftermath) -> None:
    """Of one reading are the hash, the pixels and the thumbnail of the gallery; those of the page
    in the UI are made of the first pictures once more."""
    captioned = [name for name, line in after.recorded.items() if line["result"] == "captioned"]
    alone = captioned[FIRST_PICTURES:]
    assert len(alone) > 20
    assert {name: after.opened.count(name) for name in alone} == dict.fromkeys(alone, 1)
    assert all(after.opened.count(name) == 2 for name in captioned[:FIRST_PICTURES])


@pytest.mark.server
def test_row_4_a_fifo_that_takes_a_pictures_place_is_not_waited_for(after: Aftermath) -> None:
    assert "Skipped p44.png: not a regular file" in after.errors
    assert "p44.png" not in after.recorded


@pytest.mark.server
def test_row_5_sizes_come_before_hashes(after: Aftermath, tmp_path: Path) -> None:
    assert after.skipped()["p4.png"] == "more than 1,073,741,824 bytes"
    line = after.recorded["p4.png"]
    assert (line["image_bytes"], line["image_sha256"]) == (20 << 30, "")
    assert "p4.png" in {skipped.picture.key for skipped in after.next.skipped}
    path = sparse(tmp_path / "a.png", MAX_FILE_BYTES + 1)
    began = time.process_time()
    skipped = validate(job(path))
    assert time.process_time() - began < 0.2
    assert isinstance(skipped, Skipped) and skipped.stamp == stamp_of(path)


@pytest.mark.server
def test_row_12_a_link_out_of_the_folder_that_takes_a_pictures_place_is_left_out(
    after: Aftermath,
) -> None:
    assert f"Skipped p43.png: {OUT_OF_THE_FOLDER}" in after.errors
    assert "p43.png" not in after.recorded
    assert "p43.png" not in {picture.key for picture in after.next.pictures}


def test_row_12_neither_validation_nor_reading_nor_a_hash_follows_such_a_link(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = draw_picture(folder / "a.png")
    stamp = stamp_of(picture)
    secret = draw_picture(tmp_path / "secret.png", "SECRET")
    os.utime(secret, ns=(stamp.mtime_ns, stamp.mtime_ns))
    picture.unlink()
    picture.symlink_to(secret)
    assert validate(job(picture)) == Skipped(job(picture).picture, OUT_OF_THE_FOLDER, None)
    for attempt in (check_image, lambda path: load_image(path, 0)):
        with pytest.raises(UnreadableImage, match=f"^{OUT_OF_THE_FOLDER}$"):
            attempt(picture)
    with pytest.raises(OSError, match=OUT_OF_THE_FOLDER):
        stamp_of(picture)
    within = folder / "b.png"
    within.symlink_to(draw_picture(folder / "c.png"))
    assert check_image(within) == (192, 128)


@pytest.mark.server
def test_row_15_a_lossless_jpeg_is_captioned(after: Aftermath, tmp_path: Path) -> None:
    assert after.recorded["p3.jpg"]["result"] == "captioned"
    values = np.random.default_rng(3).integers(0, 256, (40, 60), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    path.write_bytes(lossless_jpeg(values))
    assert check_image(path) == (60, 40)
    assert np.array_equal(np.asarray(load_image(path, 0))[..., 0], values)
    assert load_image(path, 600).size == (30, 20)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(CaptionError, match=r"^damaged or unreadable"):
        check_image(path)


@pytest.mark.server
def test_pictures_of_hundreds_of_megapixels_are_skipped_at_once(after: Aftermath) -> None:
    assert after.skipped()["p5.png"] == "more than 178,956,970 pixels"
    assert after.skipped()["p6.jpg"] == "more than 178,956,970 pixels"
