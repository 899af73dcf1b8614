"""When a picture was taken, from the EXIF block of its file. Sources: Exif 2.32, 4.6; those of
`headers.py`.

Nothing is decoded, and a block that makes no sense says nothing. GIF and BMP have none; a BigTIFF
is not looked into.
"""

import io
import os
import struct
from collections.abc import Iterator
from datetime import date, datetime
from typing import BinaryIO

from PIL.ExifTags import IFD, Base

from captioner.pictures.formats import JPEG_SIGNATURE, MAX_PARTS, PNG_SIGNATURE
from captioner.pictures.headers import MAX_EXIF_BYTES
from captioner.pictures.heif import exif_in, is_avif, is_heic
from captioner.pictures.kinds import START

ORDERS = {b"II*\0": "<", b"MM\0*": ">"}  # of the bytes of a number, by how a TIFF begins
MAX_ENTRIES = 1_000  # of a directory; cameras write some dozens
LENGTH = 20  # of `2024:05:17 09:30:00` with its end


def taken_on(file: BinaryIO) -> date | None:
    """The day of DateTimeOriginal, of an open file at its beginning; None when there is none, or no
    such day.

    Raises:
        OSError: it cannot be read.
    """
    start = file.read(START)
    if start.startswith(tuple(ORDERS)):
        return _day_in(file)
    if start.startswith(PNG_SIGNATURE):
        file.seek(8)
        exif = _chunk(file, b"eXIf", b"IDAT", order=">")
    elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        file.seek(12)
        exif = _chunk(file, b"EXIF", b"", order="<")
    elif start.startswith(JPEG_SIGNATURE):
        file.seek(2)
        exif = _segment(file)
    elif is_heic(start) or is_avif(start):
        file.seek(0)
        exif = exif_in(file)
    else:
        return None
    return _day_in(io.BytesIO(exif.removeprefix(b"Exif\0\0")))


def _chunk(file: BinaryIO, wanted: bytes, last: bytes, order: str) -> bytes:
    """What is in a chunk of a PNG, or of a RIFF file, where the kind comes first."""
    for _ in range(MAX_PARTS):
        head = file.read(8)
        if len(head) < 8:
            break
        first, second = head[:4], head[4:]
        kind, size = (second, first) if order == ">" else (first, second)
        (length,) = struct.unpack(order + "I", size)
        if kind == wanted:
            return file.read(min(length, MAX_EXIF_BYTES))
        if kind == last:
            break
        file.seek(length + 4 if order == ">" else length + length % 2, os.SEEK_CUR)
    return b""


def _segment(file: BinaryIO) -> bytes:
    """The EXIF block of a JPEG, which stands before its frame."""
    for _ in range(MAX_PARTS):
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0xD9, 0xDA):
            break
        content = file.read(max(0, int.from_bytes(head[2:]) - 2))
        if head[1] == 0xE1 and content.startswith(b"Exif\0\0"):
            return content
    return b""


def _day_in(tiff: BinaryIO) -> date | None:
    tiff.seek(0)
    head = tiff.read(8)
    order = ORDERS.get(head[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", head, 4)
        for tag, place, _ in _entries(tiff, order, start):
            if tag == IFD.Exif:
                return _day(tiff, order, place)
    except (struct.error, ValueError):
        pass
    return None


def _day(tiff: BinaryIO, order: str, start: int) -> date | None:
    for tag, place, count in _entries(tiff, order, start):
        if tag == Base.DateTimeOriginal and count == LENGTH:
            tiff.seek(place)
            text = tiff.read(10).decode("ascii", "replace")
            return datetime.strptime(text, "%Y:%m:%d").date()
    return None


def _entries(tiff: BinaryIO, order: str, start: int) -> Iterator[tuple[int, int, int]]:
    """The tag of each entry of a directory, its value or the place of that, and the count."""
    tiff.seek(start)
    (number,) = struct.unpack(order + "H", tiff.read(2))
    entries = tiff.read(12 * min(number, MAX_ENTRIES))
    for entry in range(0, len(entries), 12):
        tag, _, count, value = struct.unpack_from(order + "HHII", entries, entry)
        yield tag, value, count
