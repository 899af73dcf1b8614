"""Picture files to pixels: opened with Pillow, upright, opaque, sRGB and no larger than asked.

Pillow is given what makes the pixels and nothing else: text, animation frames, previews and other
metadata are left out first, so that a hostile file can neither fill the memory with them nor make
Pillow warn. Knows nothing of models: how pixels become patches is the processor's business.
"""

import io
import logging
import math
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from captioner.errors import first_line
from captioner.records import printable

MAX_FILE_BYTES = 1 << 30  # no honest picture of MAX_FILE_PIXELS needs more
MAX_FILE_PIXELS = 178_956_970  # where Pillow begins to speak of a decompression bomb
MAX_ASPECT_RATIO = 200  # the processors of the Qwen-VL family refuse more
MAX_PARTS = 1_000_000  # PNG chunks or JPEG segments; a 1 GB PNG in chunks of 8 KB has 130,000
MAX_SCANS = 100  # of a progressive JPEG, ten as a rule; each costs time for all of its pixels
MAX_PROFILE_BYTES = 16 << 20
BACKGROUND = (255, 255, 255)

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
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

logger = logging.getLogger(__name__)


class UnreadableImage(Exception):
    """The file is not a picture that can be captioned; `str()` says why."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What of a file matters for what is seen."""

    pixels: bytes  # a file of the same format without metadata
    exif: bytes
    profile: bytes | None  # the ICC profile; empty when it is damaged
    depth: int  # bits of a sample in the file


def check_image(path: Path) -> tuple[int, int]:
    """Decode the whole file and return its size (width, height) in pixels, as a viewer shows it.

    Raises:
        UnreadableImage: it is no whole PNG or JPEG, or its size or shape is absurd.
    """
    with _reasons():
        parts = _parts(path)
        image = _opened(parts)
        width, height = image.size
        # all of a JPEG's data is decoded at an eighth of its size too, in half of the time
        image.draft(None, (max(1, width // 8), max(1, height // 8)))
        image.load()
        if isinstance(image, PngImageFile):
            _check_rows(parts.pixels)
    return (height, width) if _orientation(parts.exif) >= 5 else (width, height)


def load_image(path: Path, max_pixels: int) -> Image.Image:
    """The first frame of a picture as sRGB, upright, on white, of `max_pixels` pixels at most.

    Large JPEGs are decoded at a reduced scale, as libjpeg can. `max_pixels` 0 scales nothing.
    A damaged colour profile is ignored, with a warning in the log.

    Raises:
        UnreadableImage: it is no whole PNG or JPEG, or its size or shape is absurd.
    """
    with _reasons():
        parts = _parts(path)
        image: Image.Image = _opened(parts)
        size = fitted(image.size, max_pixels)
        # at 1.5 times the size that is asked for, libjpeg's coarser scaling is not seen
        image.draft(None, (size[0] * 3 // 2, size[1] * 3 // 2))
        image.load()
        image = _direct(image, parts.depth)
        if image.size != size:
            image = image.resize(size, Image.Resampling.LANCZOS)  # transparency weighs in
        image = _opaque(image, parts.profile, path.name)
        turn = UPRIGHT.get(_orientation(parts.exif))
        return image if turn is None else image.transpose(turn)


def fitted(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """`size` scaled down, with its aspect ratio, to `max_pixels` pixels at most; 0 for no limit."""
    width, height = size
    if not max_pixels or width * height <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (width * height))
    short = max(1, int(min(size) * scale))
    # neither more pixels nor a larger aspect ratio because the short side was rounded
    long = min(int(max(size) * scale), max_pixels // short, MAX_ASPECT_RATIO * short)
    return (long, short) if width > height else (short, long)


@contextmanager
def _reasons() -> Iterator[None]:
    """Whatever a broken file makes Pillow raise, as an `UnreadableImage` that says why."""
    try:
        yield
    except UnreadableImage:
        raise
    except FileNotFoundError:
        raise UnreadableImage("the file is not there any more") from None
    except MemoryError:
        raise UnreadableImage("too large for the memory of this machine") from None
    # Pillow's decoders raise OSError, SyntaxError, and what struct and others do
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise UnreadableImage(f"cannot be read: {error.strerror}") from None
        raise UnreadableImage(f"damaged or unreadable: {first_line(error)}") from None


def _parts(path: Path) -> _Parts:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a FIFO would be waited for
        raise UnreadableImage("not a regular file")
    if found.st_size > MAX_FILE_BYTES:
        raise UnreadableImage(f"more than {MAX_FILE_BYTES:,} bytes")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES)
    if data.startswith(PNG_SIGNATURE):
        return _png_parts(data)
    if data.startswith(JPEG_SIGNATURE):
        return _jpeg_parts(data)
    raise UnreadableImage("not a PNG or JPEG file" if data else "empty file")


def _png_parts(data: bytes) -> _Parts:
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
    return _Parts(pixels, exif, profile, depth=pixels[24] if len(pixels) > 24 else 8)


def _check_rows(pixels: bytes) -> None:
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


def _jpeg_parts(data: bytes) -> _Parts:
    kept = [data[:2]]
    exif, profile = b"", dict[int, bytes]()
    profiles = 0  # how many segments the profile has
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
    return _Parts(b"".join(kept), exif, joined if profile else None, depth=8)


def _check_scans(data: bytes, start: int) -> None:
    end = data.find(b"\xff\xd9", start)
    if data.count(b"\xff\xda", start, end if end >= 0 else len(data)) >= MAX_SCANS:
        raise UnreadableImage(f"more than {MAX_SCANS} scans")


def _orientation(exif: bytes) -> int:
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
                return value if value in UPRIGHT else 1
    except struct.error:
        pass
    return 1


def _opened(parts: _Parts) -> PngImageFile | JpegImageFile:
    # not Image.open: it warns of large pictures, and looks at the file for other formats
    is_png = parts.pixels.startswith(PNG_SIGNATURE)
    image = (PngImageFile if is_png else JpegImageFile)(io.BytesIO(parts.pixels))
    width, height = image.size
    if width * height > MAX_FILE_PIXELS:
        raise UnreadableImage(f"more than {MAX_FILE_PIXELS:,} pixels")
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise UnreadableImage(f"{width}×{height} pixels: an aspect ratio over {MAX_ASPECT_RATIO}")
    return image


def _direct(image: Image.Image, depth: int) -> Image.Image:
    """The picture as L, LA, RGB, RGBA or CMYK: no palette, no 16 bits, no colour for see-through.

    `depth` is the number of bits of a sample in the file, whose units that colour is in.
    """
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    clear = image.info.get("transparency")
    if image.mode == "P":
        return image.convert("RGB" if clear is None else "RGBA")
    top = (1 << depth) - 1
    if image.mode == "L" and clear is not None:
        image.info["transparency"] = (clear & top) * 255 // top
    elif image.mode == "RGB" and clear is not None:
        image.info["transparency"] = tuple((sample & top) >> depth - 8 for sample in clear)
    if clear is not None and image.mode in ("1", "L", "RGB"):
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    return image.convert("L") if image.mode == "1" else image


def _from_16_bits(image: Image.Image) -> Image.Image:
    # Pillow clips 16-bit greys at 255; a gradient has to stay a gradient
    samples = np.asarray(image)
    grey = Image.fromarray((samples.astype(np.uint32) * 255 + 32_895 >> 16).astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is None:
        return grey
    alpha = Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _opaque(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """The picture as RGB in sRGB; what is see-through shows the background."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    if profile is not None:
        image = _in_srgb(image, profile, name)
    image = image.convert("RGB")
    if alpha is None:
        return image
    return Image.composite(image, Image.new("RGB", image.size, BACKGROUND), alpha)


def _in_srgb(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and source.profile.xcolor_space == "RGB ":
            image = image.convert("RGB")  # a grey picture that an editor of colours has saved
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        logger.warning(
            "%s: the colour profile is damaged and was ignored (%s)",
            printable(name),
            first_line(error),
        )
        return image
    return converted or image
