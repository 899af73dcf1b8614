"""When a picture was taken, from the EXIF block of its file. Source: Exif 2.32, 4.6.

Knows nothing of files; a block that makes no sense says nothing.
"""

import struct
from collections.abc import Iterator
from datetime import date, datetime

from PIL.ExifTags import IFD, Base

MAX_ENTRIES = 1_000  # of a directory; cameras write some dozens
LENGTH = 20  # of `2024:05:17 09:30:00` with its end


def taken_on(exif: bytes) -> date | None:
    """The day of DateTimeOriginal; None when there is none, or no such day."""
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
