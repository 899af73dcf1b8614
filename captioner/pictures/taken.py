"""When a picture was taken, from the EXIF block of its file. Sources: Exif 2.32, 4.6; those of
`headers.py`.

Of PNG, JPEG and WebP files, whose first bytes tell where the block is; nothing is decoded, and a
block that makes no sense says nothing.
"""

import os
import struct
from collections.abc import Iterator
from datetime import date, datetime
from typing import BinaryIO

from PIL.ExifTags import IFD, Base

from captioner.pictures.formats import JPEG_SIGNATURE, MAX_PARTS, PNG_SIGNATURE

MAX_BLOCK_BYTES = 1 << 20  # of EXIF; a JPEG has room for 64 KB
MAX_ENTRIES = 1_000  # of a directory; cameras write some dozens
LENGTH = 20  # of `2024:05:17 09:30:00` with its end


def taken_on(file: BinaryIO) -> date | None:
    """The day of DateTimeOriginal, of an open file at its beginning; None when there is none, or no
    such day.

    Raises:
        OSError: it cannot be read.
    """
    start = file.read(12)
    if start.startswith(PNG_SIGNATURE):
        file.seek(8)
        return _day_in(_chunk(file, b"eXIf", b"IDAT", order=">"))
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return _day_in(_chunk(file, b"EXIF", b"", order="<"))
    if start.startswith(JPEG_SIGNATURE):
        file.seek(2)
        return _day_in(_segment(file))
    return None


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
            return file.read(min(length, MAX_BLOCK_BYTES))
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


def _day_in(exif: bytes) -> date | None:
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        for tag, place, _ in _entries(tiff, order, start):
            if tag == IFD.Exif:
                return _day(tiff, order, place)
    except (struct.error, ValueError):
        pass
    return None


def _day(tiff: bytes, order: str, start: int) -> date | None:
    for tag, place, count in _entries(tiff, order, start):
        if tag == Base.DateTimeOriginal and count == LENGTH:
            text = tiff[place : place + 10].decode("ascii", "replace")
            return datetime.strptime(text, "%Y:%m:%d").date()
    return None


def _entries(tiff: bytes, order: str, start: int) -> Iterator[tuple[int, int, int]]:
    """The tag of each entry of a directory, its value or the place of that, and the count."""
    (number,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(start + 2, start + 2 + 12 * min(number, MAX_ENTRIES), 12):
        tag, _, count, value = struct.unpack_from(order + "HHII", tiff, entry)
        yield tag, value, count
