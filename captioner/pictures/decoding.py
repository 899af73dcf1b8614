"""Picture files to pixels: opened with Pillow, upright, opaque, sRGB and no larger than asked.

Pillow is given what makes the pixels and nothing else (see `formats.py`). Knows nothing of
models: how pixels become patches is the processor's business.
"""

import io
import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from captioner.errors import CaptionError, UnreadableImage, first_line
from captioner.macos import why_refused
from captioner.pictures.files import OF_THE_NAME, NotAFile
from captioner.pictures.formats import (
    PNG_SIGNATURE,
    ImageParts,
    check_rows,
    image_parts,
    orientation,
)
from captioner.text import printable

MAX_FILE_PIXELS = 178_956_970  # where Pillow begins to speak of a decompression bomb
MAX_ASPECT_RATIO = 200  # the processors of the Qwen-VL family refuse more

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pictures are validated on many threads, each holding a whole one: up to 700 MB. Two keep ahead of
# any device.
_decoding = threading.BoundedSemaphore(2)

logger = logging.getLogger(__name__)


def check_image(path: Path, root: Path | None = None) -> tuple[int, int]:
    """Decode the whole file and return its size (width, height) in pixels, as a viewer shows it.

    A link may lead anywhere within `root`, or within the file's own folder when none is named.

    Raises:
        UnreadableImage: it is no whole PNG or JPEG, or its size or shape is absurd.
        CaptionError: the machine cannot read or decode it now.
    """
    with reasons(), _decoding:
        parts = image_parts(path, root)
        image = _opened(parts)
        width, height = image.size
        # all of a JPEG's data is decoded at an eighth of its size too, in half of the time
        _scale(image, parts, (width // 8, height // 8))
        image.load()
        if isinstance(image, PngImageFile):
            check_rows(parts.pixels)
    return (height, width) if orientation(parts.exif) >= 5 else (width, height)


def load_image(
    path: Path, max_pixels: int, background: str = "white", root: Path | None = None
) -> Image.Image:
    """The first frame of a picture as sRGB, upright, opaque, of `max_pixels` pixels at most.

    What is transparent shows `background`, a colour as `PIL.ImageColor` understands it, in sRGB.
    Large JPEGs are decoded at a reduced scale, as libjpeg can. `max_pixels` 0 scales nothing.
    A damaged colour profile is ignored, with a warning in the log. `root` as in `check_image`.

    Raises:
        UnreadableImage: it is no whole PNG or JPEG, or its size or shape is absurd.
        CaptionError: the machine cannot read or decode it now.
    """
    with reasons():
        parts = image_parts(path, root)
        image: Image.Image = _opened(parts)
        size = fitted(image.size, max_pixels)
        # at 1.5 times the size that is asked for, libjpeg's coarser scaling is not seen
        _scale(image, parts, (size[0] * 3 // 2, size[1] * 3 // 2))
        image.load()
        image = _direct(image, parts.depth)
        if image.size != size:
            image = image.resize(size, Image.Resampling.LANCZOS)  # transparency weighs in
        image = _opaque(image, parts.profile, background, path.name)
        turn = UPRIGHT.get(orientation(parts.exif))
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
def reasons() -> Iterator[None]:
    """Whatever a broken file makes Pillow or the system raise, as an `UnreadableImage` that says
    why; as a `CaptionError` when it is the machine that is in trouble, whatever the file holds."""
    try:
        yield
    except CaptionError:
        raise
    except FileNotFoundError:
        raise UnreadableImage("the file is not there any more") from None
    except NotAFile as error:
        raise UnreadableImage(error.strerror) from None
    except MemoryError:
        raise CaptionError("there is not enough memory to decode it now") from None
    # Pillow's decoders raise OSError, SyntaxError, and what struct and others do
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            kind = UnreadableImage if error.errno in OF_THE_NAME else CaptionError
            raise kind(f"cannot be read: {why_refused(error)}") from None
        reason = "damaged or unreadable"
        # Pillow's own words; those that it has from Python are for programmers
        if isinstance(error, (OSError, SyntaxError)) and error.__cause__ is None:
            reason += f": {first_line(error)}"
        raise UnreadableImage(reason) from None


def _opened(parts: ImageParts) -> PngImageFile | JpegImageFile:
    # not Image.open: it warns of large pictures, and looks at the file for other formats
    is_png = parts.pixels.startswith(PNG_SIGNATURE)
    image = (PngImageFile if is_png else JpegImageFile)(io.BytesIO(parts.pixels))
    check_shape(image.size)
    return image


def check_shape(size: tuple[int, int]) -> None:
    """Refuse a picture that is too large or too long.

    Raises:
        UnreadableImage: its size or shape is absurd.
    """
    width, height = size
    if width * height > MAX_FILE_PIXELS:
        raise UnreadableImage(f"more than {MAX_FILE_PIXELS:,} pixels")
    if max(size) > MAX_ASPECT_RATIO * min(size):
        raise UnreadableImage(f"{width}×{height} pixels: an aspect ratio over {MAX_ASPECT_RATIO}")


def _scale(image: Image.Image, parts: ImageParts, size: tuple[int, int]) -> None:
    """Have a JPEG decoded at about that size; a PNG stays as it is."""
    if not parts.lossless:  # libjpeg would refuse it
        image.draft(None, (max(1, size[0]), max(1, size[1])))


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
    wide = samples.astype(np.uint32)
    wide *= 255  # in place: a picture may have 178 million samples
    wide += 32_895
    wide >>= 16
    grey = Image.fromarray(wide.astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is None:
        return grey
    alpha = Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _opaque(image: Image.Image, profile: bytes | None, background: str, name: str) -> Image.Image:
    """The picture as RGB in sRGB; what is see-through shows the background."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    if profile is not None:
        image = _in_srgb(image, profile, name)
    image = image.convert("RGB")
    if alpha is None:
        return image
    return Image.composite(image, Image.new("RGB", image.size, background), alpha)


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
