"""How large a picture is, from the first bytes of its file: a function for each simple format.

Each gets an open file at its beginning and returns width and height in pixels, as a viewer shows
them; (0, 0) when there is no picture in the file. Knows nothing of pixels. Sources: those of
`formats.py`; RFC 9649 for WebP; the GIF89a specification; Microsoft's BITMAPINFOHEADER for BMP.
"""

import os
import struct
from typing import BinaryIO

from captioner.pictures.formats import MAX_PARTS, orientation

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers of a frame, which has the size
MAX_EXIF_BYTES = 1 << 20  # a JPEG has room for 64 KB
Size = tuple[int, int]
NO_SIZE: Size = (0, 0)


def png_size(file: BinaryIO) -> Size:
    """Of a PNG."""
    start = file.read(24)
    if len(start) < 24 or start[12:16] != b"IHDR":
        return NO_SIZE
    width, height = struct.unpack(">II", start[16:24])
    return width, height


def jpeg_size(file: BinaryIO) -> Size:
    """Of a JPEG."""
    exif = b""
    file.seek(2)
    for _ in range(MAX_PARTS):
        kind = _next_marker(file)
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:
            continue  # these have no content
        head = file.read(2)
        if kind in (0, 0xD9, 0xDA) or len(head) < 2:
            break
        length = max(0, int.from_bytes(head) - 2)
        if kind in FRAMES:
            content = file.read(5)
            if len(content) < 5:
                break
            height, width = struct.unpack(">xHH", content)
            return turned((width, height), orientation(exif))
        if kind == 0xE1 and not exif:
            content = file.read(length)
            exif = content if content.startswith(b"Exif\0\0") else b""
        else:
            file.seek(length, os.SEEK_CUR)
    return NO_SIZE


def _next_marker(file: BinaryIO) -> int:
    """The kind of the next marker, which stands behind bytes of 0xFF and is neither that nor 0;
    0 when there is none."""
    before = b""
    for _ in range(MAX_PARTS):
        byte = file.read(1)
        if not byte:
            break
        if before == b"\xff" and byte not in (b"\xff", b"\0"):
            return byte[0]
        before = byte
    return 0


def webp_size(file: BinaryIO) -> Size:
    """Of a WebP: its canvas, or its only frame."""
    start = file.read(30)
    if len(start) < 30:
        return NO_SIZE
    if start[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", start[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if start[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", start[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if start[12:16] != b"VP8X":
        return NO_SIZE
    size = _24_bits(start[24:27]) + 1, _24_bits(start[27:30]) + 1
    has_exif = start[20] & 0x08
    return turned(size, orientation(_webp_exif(file))) if has_exif else size


def _24_bits(three: bytes) -> int:
    return int.from_bytes(three, "little")


def _webp_exif(file: BinaryIO) -> bytes:
    """The EXIF chunk, which stands behind the pixels."""
    for _ in range(MAX_PARTS):
        head = file.read(8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            return file.read(min(length, MAX_EXIF_BYTES))
        file.seek(length + length % 2, os.SEEK_CUR)
    return b""


def gif_size(file: BinaryIO) -> Size:
    """Of a GIF: its screen, made larger by a first frame that reaches beyond it."""
    start = file.read(13)
    if len(start) < 13:
        return NO_SIZE
    width, height, packed = struct.unpack("<HHB", start[6:11])
    if packed & 0x80:
        file.seek(3 << (packed & 7) + 1, os.SEEK_CUR)
    for _ in range(MAX_PARTS):
        kind = file.read(1)
        if kind == b",":
            frame = file.read(8)
            if len(frame) < 8:
                break
            left, top, across, down = struct.unpack("<HHHH", frame)
            return max(width, left + across), max(height, top + down)
        if kind == b"!":
            file.read(1)
            while length := file.read(1)[:1]:
                if length == b"\0":
                    break
                file.seek(length[0], os.SEEK_CUR)
        elif kind in (b"", b";"):
            break
    return NO_SIZE


def bmp_size(file: BinaryIO) -> Size:
    """Of a BMP."""
    start = file.read(26)
    if len(start) < 26:
        return NO_SIZE
    if start[14:18] == b"\x0c\0\0\0":
        width, height = struct.unpack("<HH", start[18:22])
        return width, height
    width, height = struct.unpack("<Ii", start[18:26])
    return width, abs(height)


def turned(size: Size, how: int) -> Size:
    """The size of a picture that has this EXIF orientation, when it stands upright."""
    return (size[1], size[0]) if how >= 5 else size
