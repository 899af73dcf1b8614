"""Thumbnails: small, of the picture as it is now, and written nowhere but beside the gallery."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.output.thumbnails import FOLDER, Thumbnails
from captioner.pictures.reading import Valid, validate
from captioner.pictures.stamps import stamp_of
from captioner.pictures.thumbnail import SIDE, thumbnail_of
from captioner.records import Job, Picture, Stamp
from captioner.settings import Settings
from tests.conftest import ROOT, FlowRun, draw_picture
from tests.finished import THUMBNAILS, finished
from tests.test_formats import put, written

SMALL = b"\xff\xd8 a JPEG"


def stamp(number: int = 0) -> Stamp:
    return Stamp(1, 1, f"{number:064x}")


def shown(output: Path) -> dict[str, str]:
    """By the name of each picture in the gallery: the path of its thumbnail."""
    lines = (output / "gallery" / "data.js").read_text().splitlines()[1:-1]
    entries = [json.loads(line.rstrip(",")) for line in lines]
    return {e["name"]: e["thumbnail"] for e in entries if "thumbnail" in e}


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((1774, 1182), (320, 213)),
        ((1182, 1774), (213, 320)),
        ((90, 60), (90, 60)),
        ((900, 2), (320, 1)),
    ],
)
def test_a_thumbnail_is_the_picture_made_small(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    with Image.open(ROOT / "input" / "diagram02.jpg") as opened:
        picture = opened.convert("RGB").resize(size)
    made = thumbnail_of(picture)
    image = Image.open(io.BytesIO(made))
    assert (image.format, image.size, max(image.size) <= SIDE) == ("JPEG", small, True)
    assert len(made) < 30_000
    careful = np.asarray(picture.resize(small, Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(image).astype(int) - careful).mean() < 8


def test_validation_makes_one_of_what_it_reads_when_it_is_wanted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    put(tmp_path / "a.webp", written(Image.new("RGB", (900, 600), "red"), "webp", exif=exif))
    for wanted in (True, False):
        job = Job(Picture("a.webp", tmp_path), "a.json", 1, 1)
        valid = validate(job, ("webp",), thumbnail=wanted)
        assert isinstance(valid, Valid)
        assert (valid.thumbnail is not None) is wanted
        if valid.thumbnail:
            assert Image.open(io.BytesIO(valid.thumbnail)).size == (213, 320)  # upright


def test_a_thumbnail_is_of_the_picture_as_it_is_now(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "a.png")
    thumbnails, made = Thumbnails(tmp_path), stamp_of(picture)
    assert thumbnails.of(made, picture) is None  # captioned before there were any
    thumbnails.add(made, SMALL)
    name = thumbnails.of(made, picture)
    assert name == f"{FOLDER}/{made.sha256}.jpg"
    assert (tmp_path / name).read_bytes() == SMALL == thumbnails.read(made, picture)
    draw_picture(picture, "STOP")
    os.utime(picture, ns=(1, 1))
    assert thumbnails.of(made, picture) is None is thumbnails.read(made, picture)
    picture.unlink()
    assert thumbnails.of(made, picture) is None is thumbnails.of(None, picture)


@pytest.mark.parametrize("linked", ["gallery", FOLDER])
def test_none_is_written_read_or_removed_through_a_link(
    linked: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, outside = tmp_path / "out", tmp_path / "outside"
    (folder / linked).parent.mkdir(parents=True)
    (outside / "thumbnails").mkdir(parents=True)
    theirs = [
        put(outside / f"{7:064x}.jpg", b""),
        put(outside / "thumbnails" / f"{7:064x}.jpg", b""),
    ]
    (folder / linked).symlink_to(outside)
    thumbnails = Thumbnails(folder)
    for number in range(3):
        thumbnails.add(stamp(number), SMALL)
    thumbnails.tidy(set())
    assert sorted(path for path in outside.rglob("*") if path.is_file()) == sorted(theirs)
    (record,) = caplog.records  # said once
    assert record.getMessage() == (
        f"Thumbnails cannot be written (what should be its folder, {Path(linked).name}, is a "
        "link): the gallery shows the pictures themselves."
    )


def test_a_link_or_a_file_in_the_way_leads_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    victim = put(tmp_path / "victim", b"as it was")
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / f"{0:064x}.jpg").symlink_to(victim)
    Thumbnails(tmp_path).add(stamp(), SMALL)
    assert victim.read_bytes() == b"as it was"
    assert (tmp_path / FOLDER / f"{0:064x}.jpg").read_bytes() == SMALL
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    put(elsewhere / "gallery", b"a file")
    Thumbnails(elsewhere).add(stamp(), SMALL)
    assert [r.levelname for r in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("digest", ["", "../../victim", "A" * 64, "0" * 63 + "/"])
def test_what_somebody_wrote_for_a_hash_leads_nowhere(digest: str, tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "a.png")
    found = picture.stat()
    wrong = Stamp(found.st_size, found.st_mtime_ns, digest)
    thumbnails = Thumbnails(tmp_path)
    thumbnails.add(wrong, SMALL)
    assert [path.name for path in tmp_path.rglob("*")] == ["a.png"]
    assert thumbnails.of(wrong, picture) is None


def test_those_of_pictures_that_changed_are_removed_and_nothing_else(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path)
    for number in range(3):
        thumbnails.add(stamp(number), SMALL)
    put(tmp_path / FOLDER / ("." + "a" * 32 + ".tmp"), b"half")
    put(tmp_path / FOLDER / "mine.jpg", b"")
    thumbnails.tidy({stamp(1).sha256})
    left = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert left == [f"{1:064x}.jpg", "mine.jpg"]


def test_the_gallery_shows_those_that_are_there(tmp_path: Path) -> None:
    settings = finished(tmp_path)
    made = shown(settings.output_dir)
    # the last one holds the same bytes as the first
    assert sorted(made) == [*sorted(THUMBNAILS), "ordner ü.png"]
    for path in made.values():
        with Image.open(settings.output_dir / path) as image:
            assert image.size == (192, 128)


@pytest.mark.model
def test_a_run_makes_them_unless_there_is_no_gallery(
    tiny_checkpoint: Path, folders: Settings, run_flow: Callable[[Settings], FlowRun]
) -> None:
    draw_picture(folders.input_dir / "a.png", size=(900, 600))
    more: dict[str, Any] = {"model": tiny_checkpoint, "max_tokens": 3}
    settings = folders.model_copy(update=more)
    without = {"output_dir": folders.output_dir / "without", "gallery": False}
    run_flow(Settings(**settings.model_dump(exclude={*without}), **without))
    assert not (folders.output_dir / "without" / "gallery").exists()
    run_flow(Settings(**settings.model_dump()))
    (made,) = shown(folders.output_dir).values()
    with Image.open(folders.output_dir / made) as image:
        assert image.size == (320, 213)
    # another picture under the same name: neither shown nor kept
    draw_picture(folders.input_dir / "a.png", "STOP", size=(600, 900))
    run_flow(Settings(**settings.model_dump()))
    (now,) = shown(folders.output_dir).values()
    assert now != made and not (folders.output_dir / made).exists()
