"""A picture from its validation to its pixels, while somebody else writes to its file."""

import errno
import hashlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.errors import UnreadableImage
from captioner.pictures.reading import Reader, validate
from captioner.pictures.stamps import looks_unchanged, stamp_of
from captioner.records import Job, Picture, Skipped, Stamp, Valid

WRITTEN_TO = "the file is being written to; run again when it is whole"


def job(path: Path) -> Job:
    return Job(Picture(path.name, path.parent), "a.json", 1, 1)


def reader(path: Path, stamp: Stamp | None = None) -> Reader:
    return Reader(Picture(path.name, path.parent), 0, "white", stamp)


def draw(path: Path, colour: str, size: tuple[int, int] = (24, 16)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def age(path: Path) -> Path:
    """Let it have been modified long ago, so that whatever is written next differs in time."""
    os.utime(path, ns=(1, 1))
    return path


def validated(path: Path) -> Stamp:
    found = validate(job(path))
    assert isinstance(found, Valid)
    return found.stamp


# --- stamps ---


def test_a_stamp_is_size_time_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    stamp = stamp_of(age(path))
    assert stamp == Stamp(3, 1, hashlib.sha256(b"abc").hexdigest())
    assert looks_unchanged(path, stamp)
    os.utime(path, ns=(2, 2))
    assert not looks_unchanged(path, stamp)
    path.write_bytes(b"abcd")
    os.utime(path, ns=(1, 1))
    assert not looks_unchanged(path, stamp)


@pytest.mark.timeout(20)
def test_what_is_no_file_has_no_stamp_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "directory.png").mkdir()
    for name in ("fifo.png", "directory.png", "missing.png"):
        with pytest.raises(OSError):
            stamp_of(tmp_path / name)


# --- validation ---


def test_a_whole_picture_is_valid_with_its_size_as_it_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.new("RGB", (24, 16)).save(path, exif=exif)
    valid = validate(job(path))
    assert isinstance(valid, Valid)
    assert (valid.job, valid.size, valid.stamp) == (job(path), (16, 24), stamp_of(path))


def whole() -> bytes:
    values = np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"hello", "not a PNG or JPEG file"),
    "cut": (lambda: whole()[:5000], "damaged or unreadable: the file is truncated"),
    "bent": (
        lambda: whole()[:5000] + b"\0" + whole()[5001:],
        "damaged or unreadable: bad checksum of IDAT",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_skipped_with_the_reason_and_its_stamp(kind: str, tmp_path: Path) -> None:
    content, reason = BROKEN[kind]
    path = tmp_path / "a.png"
    path.write_bytes(content())
    assert validate(job(path)) == Skipped(job(path).picture, reason, stamp_of(path))


def test_an_absurd_shape_is_skipped_with_its_stamp(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", "red", (402, 2))
    skipped = validate(job(path))
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "402×2 pixels: an aspect ratio over 200"
    assert skipped.stamp == stamp_of(path)


@pytest.mark.timeout(20)
def test_what_cannot_be_read_is_skipped_without_a_stamp(tmp_path: Path) -> None:
    """Perhaps it can be the next time, so nothing is noted of it."""
    os.mkfifo(tmp_path / "fifo.png")  # in the place of a file that the scan has found
    (tmp_path / "directory.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name, reason in {
        "gone.png": "the file is not there any more",
        "directory.png": "not a regular file",
        "fifo.png": "not a regular file",
        "loop.png": f"cannot be read: {os.strerror(errno.ELOOP)}",
    }.items():
        skipped = validate(job(tmp_path / name))
        assert skipped == Skipped(job(tmp_path / name).picture, reason, None)


# --- reading ---


def test_the_stamp_of_the_validation_is_kept_when_nothing_changed(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", "red")
    stamp = validated(path)
    found = reader(path, stamp)
    assert found.read().getpixel((0, 0)) == (255, 0, 0)
    assert found.stamp is stamp
    alone = reader(path)
    assert alone.read().size == (24, 16)
    assert alone.stamp == stamp


def test_a_picture_is_as_large_and_on_the_ground_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(path)
    image = Reader(Picture("a.png", path.parent), 200, "#1e90ff").read()
    assert (image.size, image.getpixel((0, 0))) == ((20, 10), (30, 144, 255))


def test_a_file_that_changed_since_its_validation_is_recorded_as_it_was_read(
    tmp_path: Path,
) -> None:
    path = age(draw(tmp_path / "a.png", "red"))
    stamp = validated(path)
    draw(path, "blue")
    found = reader(path, stamp)
    assert found.read().getpixel((0, 0)) == (0, 0, 255)
    assert found.stamp == stamp_of(path) != stamp


def test_a_file_that_is_only_touched_has_the_same_hash(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", "red")
    stamp = validated(path)
    found = reader(age(path), stamp)
    found.read()
    assert found.stamp == Stamp(stamp.bytes, 1, stamp.sha256)


def test_a_file_that_broke_or_went_since_its_validation_fails_with_its_reason(
    tmp_path: Path,
) -> None:
    path = age(draw(tmp_path / "a.png", "red"))
    stamp = validated(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnreadableImage, match=r"^damaged or unreadable: the file is truncated$"):
        reader(path, stamp).read()
    path.unlink()
    with pytest.raises(UnreadableImage, match=r"^the file is not there any more$"):
        reader(path, stamp).read()
    path.mkdir()
    with pytest.raises(UnreadableImage, match=r"^not a regular file$"):
        reader(path, stamp).read()


@pytest.mark.timeout(20)
def test_a_fifo_in_the_place_of_a_picture_is_not_waited_for(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", "red")
    stamp = validated(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnreadableImage, match=r"^not a regular file$"):
        reader(path, stamp).read()


def test_a_file_that_is_written_to_all_the_time_fails_with_its_sentence(tmp_path: Path) -> None:
    """Large enough that it is modified several times while it is decoded."""
    path = draw(tmp_path / "a.png", "red", (2000, 2000))
    stamp = validated(path)
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            os.utime(path, ns=(number, number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(UnreadableImage) as raised:
            reader(path, stamp).read()
    finally:
        ended.set()
        writer.join()
    assert str(raised.value) == WRITTEN_TO
    assert reader(path, stamp).read().size == (2000, 2000)  # whole again
