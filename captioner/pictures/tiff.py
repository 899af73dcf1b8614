"""What is in a TIFF file, without decoding it: the tags of its first page that make pixels.

Pillow gets a file that leads to these tags and to no others, so that metadata can neither fill the
memory nor make it warn. Knows nothing of pixels. Sources: TIFF 6.0, and the BigTIFF specification
of AWare Systems.
"""

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

from captioner.errors import UnreadableImage
from captioner.pictures.headers import NO_SIZE, Size, turned
from captioner.text import counted

MAX_PROFILE_BYTES = 16 << 20
MAX_TAGS = 4096  # of a page; some fifty are in use
MAX_SAMPLES = 6  # of a pixel that Pillow decodes
NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG and LONG8
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}

WIDTH, HEIGHT, PHOTOMETRIC, ORIENTATION, SAMPLES, PROFILE = 256, 257, 262, 274, 277, 34675
BITS, FORMAT = 258, 339  # of a sample
ONE_NUMBER = {WIDTH, HEIGHT, 259, PHOTOMETRIC, 266, SAMPLES, 278, 284, 292, 293, 317, 322, 323, 332}
# besides: bits, strips and tiles, colour map, extra samples, sample format, JPEG tables, YCbCr
KEPT = ONE_NUMBER | {BITS, FORMAT, 273, 279, 320, 324, 325, 338, 347, 529, 530, 531, 532}
KEPT |= {*range(512, 522)}  # of JPEG as TIFF 6.0 had it


@dataclass(frozen=True, slots=True)
class _Tag:
    """An entry of a directory, and where its value is."""

    kind: int  # the type of its numbers
    count: int
    position: int  # in the file

    @property
    def bytes(self) -> int:
        return BYTES[self.kind] * self.count


@dataclass(frozen=True, slots=True)
class Page:
    """The first page of a TIFF."""

    file: bytes  # with the tags that make pixels, and no others
    orientation: int  # as EXIF counts them
    profile: bytes | None  # the ICC profile
    white_is_zero: bool  # of two meanings that a grey may have, the less usual one
    samples: str  # of a pixel, in words


def tiff_size(file: BinaryIO) -> Size:
    """Width and height of the first page as a viewer shows it; (0, 0) without one."""
    try:
        order, _, tags = _directory(file)
        size = _number(file, order, tags, WIDTH), _number(file, order, tags, HEIGHT)
        return turned(size, _orientation(file, order, tags))
    except UnreadableImage:
        return NO_SIZE


def first_page(data: bytes) -> Page:
    """The first page of a TIFF.

    Raises:
        UnreadableImage: its structure is damaged or absurd.
    """
    file = io.BytesIO(data)
    order, big, tags = _directory(file)
    entries = []
    for number in sorted(KEPT & tags.keys()):
        tag = tags[number]
        if tag.position + tag.bytes > len(data) or not tag.count:
            raise _damaged("a value lies beyond its end")
        count = 1 if number in ONE_NUMBER else tag.count
        value = data[tag.position : tag.position + BYTES[tag.kind] * count]
        room = 8 if big else 4
        if len(value) > room:
            value = struct.pack(order + ("Q" if big else "I"), tag.position)
        packed = struct.pack(order + ("HHQ" if big else "HHI"), number, tag.kind, count)
        entries.append(packed + value.ljust(room, b"\0"))
    counted = struct.pack(order + ("Q" if big else "H"), len(entries))
    directory = counted + b"".join(entries) + bytes(8 if big else 4)  # and no page behind it
    padding = bytes(len(data) % 2)
    start = len(data) + len(padding)
    head = data[:8] if big else data[:4]
    head += struct.pack(order + ("Q" if big else "I"), start)
    profile = tags.get(PROFILE)
    if SAMPLES in tags and _number(file, order, tags, SAMPLES) > MAX_SAMPLES:
        raise UnreadableImage(f"more than {MAX_SAMPLES} samples a pixel")
    photometric = _number(file, order, tags, PHOTOMETRIC) if PHOTOMETRIC in tags else 0
    return Page(
        b"".join([head, memoryview(data)[len(head) :], padding, directory]),
        _orientation(file, order, tags),
        None if profile is None else _profile(data, profile),
        photometric == 0,
        _in_words(file, order, tags),
    )


def _directory(file: BinaryIO) -> tuple[str, bool, dict[int, _Tag]]:
    """The byte order, whether it is a BigTIFF, and the tags of the first page by their numbers."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    try:
        big = struct.unpack_from(order + "H", head, 2)[0] == 43
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
        file.seek(min(start, 1 << 62))
        (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
        if count > MAX_TAGS:
            raise UnreadableImage(f"more than {MAX_TAGS:,} tags")
        size, layout = (20, "HHQ") if big else (12, "HHI")
        start = file.tell()
        entries = file.read(size * count)
        tags: dict[int, _Tag] = {}
        for place in range(0, size * count, size):
            number, kind, many = struct.unpack_from(order + layout, entries, place)
            if kind not in BYTES:
                continue
            room, position = (8, start + place + 12) if big else (4, start + place + 8)
            if BYTES[kind] * many > room:
                (position,) = struct.unpack_from(
                    order + ("Q" if big else "I"), entries, position - start
                )
            tags.setdefault(number, _Tag(kind, many, position))
        return order, big, tags
    except struct.error:
        raise _damaged("its directory is cut off") from None


def _number(file: BinaryIO, order: str, tags: dict[int, _Tag], number: int) -> int:
    tag = tags.get(number)
    if tag is None or tag.kind not in NUMBERS or not tag.count:
        raise _damaged("a tag is missing")
    layout = order + NUMBERS[tag.kind]
    file.seek(min(tag.position, 1 << 62))
    try:
        (value,) = struct.unpack(layout, file.read(struct.calcsize(layout)))
    except struct.error:
        raise _damaged("a value lies beyond its end") from None
    return int(value)


def _in_words(file: BinaryIO, order: str, tags: dict[int, _Tag]) -> str:
    """For example `3 floating-point samples of 64 bits`."""

    def number(tag: int) -> int:
        return _number(file, order, tags, tag) if tag in tags else 1

    kind = {2: "signed ", 3: "floating-point "}.get(number(FORMAT), "")
    return counted(number(SAMPLES), f"{kind}sample") + f" of {number(BITS)} bits"


def _orientation(file: BinaryIO, order: str, tags: dict[int, _Tag]) -> int:
    try:
        value = _number(file, order, tags, ORIENTATION)
    except UnreadableImage:
        return 1
    return value if 1 <= value <= 8 else 1


def _profile(data: bytes, tag: _Tag) -> bytes:
    """The profile; empty when it is damaged or too large."""
    profile = data[tag.position : tag.position + min(tag.bytes, MAX_PROFILE_BYTES + 1)]
    return profile if len(profile) == tag.bytes <= MAX_PROFILE_BYTES else b""


def _damaged(why: str) -> UnreadableImage:
    return UnreadableImage(f"damaged or unreadable: {why}")
