"""What is in a PNG or JPEG file, without decoding it: the parts that make pixels, and no others.

Text, animation frames, previews and other metadata are left out, so that a hostile file can
neither fill the memory with them nor make Pillow warn; orientation and colour profile are read
with bounds. Sources: the PNG specification (https://www.w3.org/TR/png-3/), JPEG's (ITU-T T.81)
and Exif 2.32.
"""

import re
import struct
import zlib
from dataclasses import dataclass

from PIL.ExifTags import Base

from captioner.errors import UnreadableImage

MAX_PARTS = 1_000_000  # PNG chunks or JPEG segments; a 1 GB PNG in chunks of 8 KB has 130,000
MAX_SCANS = 100  # of a progressive JPEG, ten as a rule; each costs time for all of its pixels
MAX_PROFILE_BYTES = 16 << 20

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
JPEG_SIGNATURE = b"\xff\xd8\xff"
JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
# first column, first row, columns and rows apart, of the passes of an interlaced PNG
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


@dataclass(frozen=True, slots=True)
class ImageParts:
    """What of a file matters for what is seen."""

    pixels: bytes  # a file of the same format without metadata
    exif: bytes
    profile: bytes | None  # the ICC profile; empty when it is damaged
    depth: int  # bits of a sample in the file
    lossless: bool = False  # a JPEG that libjpeg cannot decode at a reduced scale


def png_parts(data: bytes) -> ImageParts:
    """The parts of a PNG that matter for what is seen.

    Raises:
        UnreadableImage: its structure is damaged or absurd.
    """
    kept: list[bytes | memoryview] = [PNG_SIGNATURE]
    exif, profile = b"", None
    position, view = len(PNG_SIGNATURE), memoryview(data)
    for _ in range(MAX_PARTS):
        if position + 8 > len(data):
            break  # no IEND: what matters is whether all rows are there
        length, kind = struct.unpack_from(">I4s", data, position)
        chunk = view[position : position + length + 12]
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
            if len(chunk) < length + 12:
                raise UnreadableImage("damaged or unreadable: the file is truncated")
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
                raise UnreadableImage(f"damaged or unreadable: bad checksum of {kind.decode()}")
            if (kind == b"IHDR") != (len(kept) == 1):  # of two, Pillow would take the second
                raise UnreadableImage("damaged or unreadable: not one header at its beginning")
            kept.append(chunk)
        elif kind == b"iCCP":
            profile = _inflated(bytes(chunk[8:-4]))
        elif kind == b"eXIf":
            exif = bytes(chunk[8:-4])
        elif kind == b"IEND":
            break
        elif not kind.isalpha():
            raise UnreadableImage("damaged or unreadable: no PNG chunk where one should be")
        position += length + 12
    else:
        raise UnreadableImage(f"more than {MAX_PARTS:,} chunks")
    kept.append(PNG_END)
    pixels = b"".join(kept)
    return ImageParts(pixels, exif, profile, depth=pixels[24] if len(pixels) > 24 else 8)


def check_rows(pixels: bytes) -> None:
    """Count what the compressed data of a lean PNG holds; Pillow takes missing rows for black."""
    width, height, depth, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", pixels, 16)
    bits = depth * {2: 3, 4: 2, 6: 4}.get(kind, 1)
    missing = 0
    for x, y, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + -(-columns * bits // 8))
    inflater = zlib.decompressobj()
    position, view = len(PNG_SIGNATURE), memoryview(pixels)
    while position < len(pixels) and missing > 0:
        length, name = struct.unpack_from(">I4s", pixels, position)
        rest: bytes | memoryview = view[position + 8 : position + 8 + length]
        while name == b"IDAT" and rest and missing > 0 and not inflater.eof:
            missing -= len(inflater.decompress(rest, 1 << 20))
            rest = inflater.unconsumed_tail
        position += length + 12
    if missing > len(inflater.flush()):
        raise UnreadableImage("damaged or unreadable: the last rows are missing")


def _inflated(chunk: bytes) -> bytes:
    """The profile in an iCCP chunk; empty when it is damaged or too large."""
    _, _, rest = chunk.partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(rest[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if inflater.eof else b""


def jpeg_parts(data: bytes) -> ImageParts:
    """The parts of a JPEG that matter for what is seen.

    Raises:
        UnreadableImage: its structure is damaged or absurd.
    """
    kept = [data[:2]]
    exif, profile = b"", dict[int, bytes]()
    profiles = 0  # how many segments the profile has
    lossless = False
    position = 2
    for _ in range(MAX_PARTS):
        marker = JPEG_MARKER.search(data, position)
        if marker is None or data[marker.end() - 1] == 0xD9:
            raise UnreadableImage("damaged or unreadable: no picture in the file")
        kind, position = data[marker.end() - 1], marker.end()
        if kind == 0xDA:
            _check_scans(data, position)
            kept.append(data[marker.start() :])
            break
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:
            continue  # these have no content
        length = int.from_bytes(data[position : position + 2])
        content = data[position + 2 : position + length]
        lossless = lossless or kind == 0xC3
        if kind == 0xE1 and content.startswith(b"Exif\0\0"):
            exif = exif or content
        elif kind == 0xE2 and content.startswith(b"ICC_PROFILE\0") and len(content) > 14:
            profiles = content[13]
            profile.setdefault(content[12], content[14:])
        elif not (0xE1 <= kind <= 0xED or kind in (0xEF, 0xFE)):
            kept.append(data[marker.start() : position + length])
        position += max(length, 2)
    else:
        raise UnreadableImage(f"more than {MAX_PARTS:,} segments")
    whole = sorted(profile) == list(range(1, profiles + 1))
    joined = b"".join(profile[n] for n in sorted(profile)) if whole else b""
    return ImageParts(b"".join(kept), exif, joined if profile else None, 8, lossless)


def _check_scans(data: bytes, start: int) -> None:
    end = data.find(b"\xff\xd9", start)
    if data.count(b"\xff\xda", start, end if end >= 0 else len(data)) >= MAX_SCANS:
        raise UnreadableImage(f"more than {MAX_SCANS} scans")


def orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 when there is none or it makes no sense."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == Base.Orientation:
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
