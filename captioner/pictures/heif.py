"""What is in a HEIC or AVIF file, without decoding it: which of the two it is, its size, and EXIF.

Both are boxes (ISO/IEC 14496-12) that hold items (ISO/IEC 23008-12); the size is a property of the
primary item, and EXIF an item of its own. Knows nothing of pixels.
"""

import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from captioner.pictures.headers import MAX_EXIF_BYTES, NO_SIZE, Size

MAX_BOXES = 10_000
MAX_META_BYTES = 16 << 20  # of the box with all items' properties; some kilobytes as a rule
AVIF = {b"avif", b"avis"}
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}


def is_avif(start: bytes) -> bool:
    """Whether a file that starts so is an AVIF."""
    return bool(AVIF & _brands(start))


def is_heic(start: bytes) -> bool:
    """Whether a file that starts so is a HEIC, or a HEIF whose kind its start does not tell."""
    return bool(HEIC & _brands(start)) and not is_avif(start)


def _brands(start: bytes) -> set[bytes]:
    if start[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(start[:4]), len(start))
    return {start[8:12], *(start[place : place + 4] for place in range(16, end - 3, 4))}


def heif_size(file: BinaryIO) -> Size:
    """Width and height of the primary item as a viewer shows it; (0, 0) without one."""
    try:
        return _size_of_primary(_meta(file), cropped=True)
    except (struct.error, IndexError):
        return NO_SIZE


def avif_size(file: BinaryIO) -> Size:
    """The same where nothing is cropped: Pillow leaves that out."""
    try:
        return _size_of_primary(_meta(file), cropped=False)
    except (struct.error, IndexError):
        return NO_SIZE


def exif_in(file: BinaryIO) -> bytes:
    """The EXIF block, from its TIFF header on; empty without one."""
    try:
        boxes = dict(_boxes(_meta(file)[4:]))
        start, length = _extent(boxes.get(b"iloc", b""), _exif_item(boxes.get(b"iinf", b"")))
        file.seek(min(start, 1 << 62))
        block = file.read(min(length, MAX_EXIF_BYTES))
        (before,) = struct.unpack_from(">I", block)
    except (struct.error, IndexError, ValueError):
        return b""
    return block[4 + before :]


def _exif_item(iinf: bytes) -> int:
    """The number of the item that is EXIF; 0 without one."""
    for kind, content in _boxes(iinf[8 if iinf[0] else 6 :]):
        long = content[0] > 2  # in later versions items have longer numbers
        number, what = content[4 : 8 if long else 6], content[10 if long else 8 :]
        if kind == b"infe" and what.startswith(b"Exif"):
            return int.from_bytes(number)
    return 0


def _extent(iloc: bytes, item: int) -> tuple[int, int]:
    """Where in the file an item begins, and its length; no length without one."""
    version, (sizes, more) = iloc[0], iloc[4:6]
    of_offset, of_length, of_base = sizes >> 4, sizes & 15, more >> 4
    of_index = more & 15 if version else 0
    entries = io.BytesIO(iloc[6:])

    def number(size: int) -> int:
        return int.from_bytes(entries.read(size))

    of_item = 4 if version > 1 else 2
    for _ in range(min(number(of_item), MAX_BOXES)):
        this, method = number(of_item), number(2) & 15 if version else 0
        number(2)  # in which file it is
        base, parts = number(of_base), number(2)
        if this == item and parts and not method:  # others are within the boxes
            number(of_index)
            return base + number(of_offset), number(of_length)
        entries.seek(parts * (of_index + of_offset + of_length), os.SEEK_CUR)
    return 0, 0


def _meta(file: BinaryIO) -> bytes:
    """What is in the `meta` box of the file."""
    for _ in range(MAX_BOXES):
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        before = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            before = 16
        if kind == b"meta":
            return file.read(min(max(0, length - before), MAX_META_BYTES))
        if length < before:  # 0: to the end of the file
            break
        file.seek(min(length - before, 1 << 62), os.SEEK_CUR)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the content of each box in `data`."""
    position = 0
    for _ in range(MAX_BOXES):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        if length < 8:
            return
        yield kind, data[position + 8 : position + length]
        position += length


def _size_of_primary(meta: bytes, *, cropped: bool) -> Size:
    boxes = dict(_boxes(meta[4:]))
    pitm = boxes.get(b"pitm", b"\0")
    primary = int.from_bytes(pitm[4:8] if pitm[0] else pitm[4:6])
    inside = dict(_boxes(boxes.get(b"iprp", b"")))
    properties = list(_boxes(inside.get(b"ipco", b"")))
    size = NO_SIZE
    for index in _associated(inside.get(b"ipma", b""), primary):
        if not 1 <= index <= len(properties):
            continue
        kind, content = properties[index - 1]
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", content, 4)
            size = (width, height)
        elif kind == b"clap" and cropped:  # to a rational number of pixels
            across, by, down, per = struct.unpack_from(">IIII", content)
            if by and per:
                size = (across // by, down // per)
        elif kind == b"irot" and content[0] & 1:
            size = (size[1], size[0])
    return size


def _associated(ipma: bytes, item: int) -> list[int]:
    """The numbers of the properties of an item, from 1."""
    version, flags = ipma[0], int.from_bytes(ipma[1:4])
    (count,) = struct.unpack_from(">I", ipma, 4)
    position = 8
    for _ in range(min(count, MAX_BOXES)):
        (this,) = struct.unpack_from(">I" if version else ">H", ipma, position)
        position += 4 if version else 2
        many, position = ipma[position], position + 1
        wide = flags & 1
        layout = f">{many}{'H' if wide else 'B'}"
        found = struct.unpack_from(layout, ipma, position)
        position += struct.calcsize(layout)
        if this == item:
            return [index & (0x7FFF if wide else 0x7F) for index in found]
    return []
