"""How large pictures are, from the first bytes of their files: nothing is decoded.

A picture that has a size here may still be damaged further on; what has none here is never
captioned. Knows nothing of models. Sources: as in `formats.py`.
"""

import os
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import BinaryIO

from captioner.errors import CaptionError, UnreadableImage
from captioner.pictures.decoding import check_shape, reasons
from captioner.pictures.files import MAX_FILE_BYTES, opened, size_of
from captioner.pictures.formats import JPEG_SIGNATURE, MAX_PARTS, PNG_SIGNATURE, orientation
from captioner.records import Picture

AT_ONCE = 16  # files; a disk or a network volume is waited for, not the processor
PART = 100  # files that a thread looks at in a row: to hand over one takes as long as to read it
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers of a frame, which has the size
Measured = tuple[int, int] | CaptionError
NO_PICTURE = "damaged or unreadable: no picture in the file"


def sizes(pictures: Iterable[Picture]) -> list[Measured]:
    """The width and height of each picture as a viewer shows it, or why it cannot be captioned: an
    `UnreadableImage` is about the file, any other error about the machine."""
    every = list(pictures)
    parts = [every[start : start + PART] for start in range(0, len(every), PART)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(chain.from_iterable(pool.map(_sizes_of_a_part, parts)))


def _sizes_of_a_part(pictures: list[Picture]) -> list[Measured]:
    return [_size_or_reason(picture) for picture in pictures]


def _size_or_reason(picture: Picture) -> Measured:
    try:
        with reasons():
            size = _size(picture)
            if not all(size):
                raise UnreadableImage(NO_PICTURE)
            check_shape(size)
            return size
    except CaptionError as error:
        return error


def _size(picture: Picture) -> tuple[int, int]:
    with opened(picture.path, picture.root) as file:
        if size_of(file) > MAX_FILE_BYTES:
            raise UnreadableImage(f"more than {MAX_FILE_BYTES:,} bytes")
        start = file.read(24)
        if start.startswith(PNG_SIGNATURE):
            return _png_size(start)
        if start.startswith(JPEG_SIGNATURE):
            file.seek(2)
            return _jpeg_size(file)
        raise UnreadableImage("not a PNG or JPEG file" if start else "empty file")


def _png_size(start: bytes) -> tuple[int, int]:
    if len(start) < 24 or start[12:16] != b"IHDR":
        raise UnreadableImage(NO_PICTURE)
    width, height = struct.unpack(">II", start[16:24])
    return width, height


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    exif = b""
    for _ in range(MAX_PARTS):
        kind = _next_marker(file)
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:
            continue  # these have no content
        head = file.read(2)
        if kind in (0xD9, 0xDA) or len(head) < 2:
            break
        length = max(0, int.from_bytes(head) - 2)
        if kind in FRAMES:
            content = file.read(5)
            if len(content) < 5:
                break
            height, width = struct.unpack(">xHH", content)
            return (height, width) if orientation(exif) >= 5 else (width, height)
        if kind == 0xE1 and not exif:
            content = file.read(length)
            exif = content if content.startswith(b"Exif\0\0") else b""
        else:
            file.seek(length, os.SEEK_CUR)
    raise UnreadableImage(NO_PICTURE)


def _next_marker(file: BinaryIO) -> int:
    """The kind of the next marker: what stands behind bytes of 0xFF and is neither that nor 0."""
    before = b""
    for _ in range(MAX_PARTS):
        byte = file.read(1)
        if not byte:
            break
        if before == b"\xff" and byte not in (b"\xff", b"\0"):
            return byte[0]
        before = byte
    raise UnreadableImage(NO_PICTURE)
