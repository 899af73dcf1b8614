"""A picture file in Pillow's hands, not decoded yet: a function for each format.

Pillow gets what makes pixels and, as far as that can be taken apart, nothing else. Knows nothing
of which format a file is in.
"""

import ctypes
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from captioner.errors import InputError, UnreadableImage
from captioner.macos import heic_as_tiff, on_macos
from captioner.pictures.formats import check_rows, jpeg_parts, orientation, png_parts
from captioner.pictures.headers import Size, bmp_size, gif_size, webp_size
from captioner.pictures.heif import avif_size, heif_size
from captioner.pictures.tiff import first_page, tiff_size

MAX_FILE_PIXELS = 178_956_970  # where Pillow begins to speak of a decompression bomb
MAX_ASPECT_RATIO = 200  # the processors of the Qwen-VL family refuse more
NO_PICTURE = "damaged or unreadable: no picture in the file"
NO_HEIC = (
    "HEIC pictures cannot be read here: install what reads them with `pip install pillow-heif`"
)

_quiet = threading.Lock()


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture that can be decoded, and what is to be done with its pixels."""

    image: Image.Image  # its first frame; nothing is decoded yet
    orientation: int = 1  # as EXIF counts them
    profile: bytes | None = None  # the ICC profile; empty when it is damaged
    depth: int = 8  # bits of a sample in the file
    scalable: bool = False  # whether `Image.draft` can have it decoded at a reduced scale
    inverted: bool = False  # whether zero is white, of which Pillow knows nothing
    check: Callable[[], None] = lambda: None  # what the decoder leaves unnoticed, once it is done


def check_shape(size: Size) -> None:
    """Refuse a picture that is too large or too long.

    Raises:
        UnreadableImage: its size or shape is absurd.
    """
    width, height = size
    if width * height > MAX_FILE_PIXELS:
        raise UnreadableImage(f"more than {MAX_FILE_PIXELS:,} pixels")
    if max(size) > MAX_ASPECT_RATIO * min(size):
        raise UnreadableImage(f"{width}×{height} pixels: an aspect ratio over {MAX_ASPECT_RATIO}")


def png(data: bytes) -> Opened:
    """A PNG."""
    parts = png_parts(data)
    image = PngImageFile(io.BytesIO(parts.pixels))
    check = partial(check_rows, parts.pixels)
    return Opened(image, orientation(parts.exif), parts.profile, parts.depth, check=check)


def jpeg(data: bytes) -> Opened:
    """A JPEG, or the main picture of an MPO."""
    parts = jpeg_parts(data)
    image = JpegImageFile(io.BytesIO(parts.pixels))
    turn = orientation(parts.exif)
    # libjpeg would refuse to scale a lossless one
    return Opened(image, turn, parts.profile, parts.depth, scalable=not parts.lossless)


def webp(data: bytes) -> Opened:
    """A WebP, or the first frame of an animated one."""
    _check_size(webp_size, data)  # the decoder makes room for a canvas at once
    return _described(WebPImageFile(io.BytesIO(data)))


def avif(data: bytes) -> Opened:
    """An AVIF, or the first frame of an animated one."""
    _check_size(avif_size, data)
    with _without_warnings():  # of EXIF data that is damaged
        return _described(AvifImageFile(io.BytesIO(data)))


def gif(data: bytes) -> Opened:
    """The first frame of a GIF."""
    _check_size(gif_size, data)
    return Opened(GifImageFile(io.BytesIO(data)))


def tiff(data: bytes) -> Opened:
    """The first page of a TIFF."""
    _check_size(tiff_size, data)
    page = first_page(data)
    _quiet_libtiff()
    try:
        image = TiffImageFile(io.BytesIO(page.file))
    except SyntaxError:  # there are more kinds than anybody reads
        raise UnreadableImage(f"a TIFF of a kind that is not read: {page.samples}") from None
    inverted = page.white_is_zero and image.mode not in ("1", "L")
    return Opened(image, page.orientation, page.profile, inverted=inverted)


@cache
def _quiet_libtiff() -> None:
    """Have libtiff not write what is wrong with a picture to stderr: it returns that as well."""
    with suppress(OSError, AttributeError):  # where Pillow has one of its own inside
        # the library that Pillow's own is linked with
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)  # type: ignore[attr-defined]


def bmp(data: bytes) -> Opened:
    """A BMP."""
    _check_size(bmp_size, data)
    return Opened(BmpImageFile(io.BytesIO(data)))


def heic(data: bytes) -> Opened:
    """The primary picture of a HEIC, which stands upright already.

    Raises:
        UnreadableImage: nothing on this machine reads it.
    """
    _check_size(heif_size, data)
    if find_spec("pillow_heif") is not None:
        from pillow_heif import open_heif  # here: an extra, and a large library

        found = open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        image = found.to_pillow()
        return Opened(image, profile=image.info.get("icc_profile"))
    if on_macos():
        return tiff(heic_as_tiff(data))
    raise UnreadableImage(NO_HEIC)


def reads_heic() -> bool:
    """Whether this machine reads HEIC."""
    return on_macos() or find_spec("pillow_heif") is not None


def check_reads_heic() -> None:
    """Check that this machine reads HEIC.

    Raises:
        InputError: it does not.
    """
    if not reads_heic():
        raise InputError(f"{NO_HEIC}, or leave heic out of --formats.")


def _check_size(size_of: Callable[[io.BytesIO], Size], data: bytes) -> None:
    size = size_of(io.BytesIO(data))
    if not all(size):
        raise UnreadableImage(NO_PICTURE)
    check_shape(size)


def _described(image: Image.Image) -> Opened:
    """A picture whose decoder has found its EXIF and colour profile."""
    info: dict[Any, Any] = image.info
    return Opened(image, orientation(info.get("exif", b"")), info.get("icc_profile"))


@contextmanager
def _without_warnings() -> Iterator[None]:
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
