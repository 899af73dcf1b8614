"""A picture from its file to its pixels, read once, while somebody else writes to its file."""

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.errors import CaptionError, UnreadableImage
from captioner.pictures.decoding import load_image
from captioner.pictures.reading import Valid, validate
from captioner.pictures.stamps import looks_unchanged, stamp_of
from captioner.records import Job, Picture, Skipped, Stamp


def job(path: Path) -> Job:
    return Job(Picture(path.name, path.parent), "a.json", 1, 1)


def draw(path: Path, colour: str, size: tuple[int, int] = (24, 16)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def age(path: Path) -> Path:
    """Let it have been modified long ago, so that whatever is written next differs in time."""
    os.utime(path, ns=(1, 1))
    return path


def validated(path: Path, formats: Iterator[str] | tuple[str, ...] = ()) -> Valid:
    found = validate(job(path), formats)
    assert isinstance(found, Valid)
    return found


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


# --- pixels ---


def test_the_pixels_are_given_away_once(tmp_path: Path) -> None:
    """What holds the result afterwards, as Prefect does until a run ends, holds none of them."""
    valid = validated(draw(tmp_path / "a.png", "red"))
    assert valid.take().getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(IndexError):
        valid.take()


def test_a_picture_is_as_large_and_on_the_ground_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(path)
    valid = validate(job(path), max_pixels=200, background="#1e90ff")
    assert isinstance(valid, Valid)
    image = valid.take()
    assert (valid.size, image.size) == ((40, 20), (20, 10))
    assert image.getpixel((0, 0)) == (30, 144, 255)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("most", [0, 2_000])
def test_the_pixels_are_those_that_a_picture_has_by_itself(
    suffix: str, most: int, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.open(io.BytesIO(whole())).save(path)
    valid = validate(job(path), max_pixels=most, thumbnail=True)
    assert isinstance(valid, Valid)
    assert np.array_equal(np.asarray(valid.take()), np.asarray(load_image(path, most)))


# --- while somebody writes ---


def once(call: Callable[[], object]) -> Iterator[str]:
    """Formats to ask for. They are looked at once the file is read, and before it is decoded; that
    is when `call` is called, for the first file that is read."""
    call()
    yield "png"


def test_a_file_that_changes_while_it_is_decoded_is_read_again(tmp_path: Path) -> None:
    path = age(draw(tmp_path / "a.png", "red"))
    valid = validated(path, once(lambda: draw(path, "blue")))
    assert valid.take().getpixel((0, 0)) == (0, 0, 255)
    assert valid.stamp == stamp_of(path)


def test_a_file_that_is_only_touched_has_the_same_hash(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", "red")
    before = stamp_of(path)
    valid = validated(path, once(lambda: age(path)))
    assert valid.stamp == Stamp(before.bytes, 1, before.sha256)


def test_a_file_that_breaks_or_goes_meanwhile_is_skipped_as_what_it_is_then(
    tmp_path: Path,
) -> None:
    path = age(draw(tmp_path / "a.png", "red"))
    cut = path.read_bytes()[:60]
    skipped = validate(job(path), once(lambda: path.write_bytes(cut)))
    reason = "damaged or unreadable: the file is truncated"
    assert skipped == Skipped(job(path).picture, reason, stamp_of(path))
    draw(path, "red")
    skipped = validate(job(path), once(path.unlink))
    assert skipped == Skipped(job(path).picture, "the file is not there any more", None)


class Changing(tuple[str, ...]):
    """Formats to ask for; whenever they are looked at, the file has changed."""

    path: Path
    number = 1

    def __iter__(self) -> Iterator[str]:
        self.number += 1
        os.utime(self.path, ns=(self.number, self.number))
        return super().__iter__()


def test_a_file_that_is_written_to_all_the_time_says_nothing_about_the_picture(
    tmp_path: Path,
) -> None:
    formats = Changing(("png",))
    formats.path = draw(tmp_path / "a.png", "red")
    whole = formats.path.read_bytes()
    formats.path.write_bytes(whole[:60])  # there is more to come
    with pytest.raises(CaptionError, match=r"^the file is being written to$"):
        validate(job(formats.path), formats)
    formats.path.write_bytes(whole)
    with pytest.raises(CaptionError, match=r"^the file is being written to$") as raised:
        validate(job(formats.path), formats)
    assert not isinstance(raised.value, UnreadableImage)
    assert formats.number == 5  # each time it was tried twice
    assert validated(formats.path).size == (24, 16)
