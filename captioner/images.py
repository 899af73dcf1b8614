"""Picture files to pixels: opened with Pillow, upright, opaque, RGB and no larger than asked.

Knows nothing of models: how pixels become patches is the processor's business.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from captioner.errors import first_line

FORMATS = ("PNG", "JPEG", "MPO")  # MPO: the JPEG of cameras that add a second view
MAX_FILE_PIXELS = 178_956_970  # Pillow's own limit for what it calls a decompression bomb
MAX_ASPECT_RATIO = 200  # the processors of the Qwen-VL family refuse more
BACKGROUND = (255, 255, 255)

# Pillow warns at half of its limit; a 100-megapixel photograph is not worth a warning here.
Image.MAX_IMAGE_PIXELS = MAX_FILE_PIXELS


class UnreadableImage(Exception):
    """The file is not a picture that can be captioned; `str()` says why."""


def check_image(path: Path) -> tuple[int, int]:
    """Decode the whole file and return its size (width, height) in pixels, as a viewer shows it.

    Raises:
        UnreadableImage: it is no whole PNG or JPEG, or its size or shape is absurd.
    """
    return load_image(path, max_pixels=0).size


def load_image(path: Path, max_pixels: int) -> Image.Image:
    """The first frame of a picture as RGB, upright, on white, of `max_pixels` pixels at most.

    Large JPEGs are decoded at a reduced scale, as libjpeg can. `max_pixels` 0 scales nothing.

    Raises:
        UnreadableImage: it is no whole PNG or JPEG, or its size or shape is absurd.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image.size)
            if max_pixels and image.format != "PNG":
                image.draft(None, fitted(image.size, max_pixels))
            image.load()
            return _shrunk(_rgb(ImageOps.exif_transpose(image)), max_pixels)
    except UnidentifiedImageError:
        raise UnreadableImage(_what_is_wrong(path)) from None
    except Image.DecompressionBombError:
        raise UnreadableImage(f"more than {MAX_FILE_PIXELS:,} pixels") from None
    except FileNotFoundError:
        raise UnreadableImage("the file is not there any more") from None
    except MemoryError:
        raise UnreadableImage("too large for the memory of this machine") from None
    # Pillow's decoders raise these, and struct, zlib and others, for damaged files
    except Exception as error:
        raise UnreadableImage(f"damaged or unreadable: {first_line(error)}") from None


def fitted(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """`size` scaled down, with its aspect ratio, to `max_pixels` pixels at most; 0 for no limit."""
    width, height = size
    if not max_pixels or width * height <= max_pixels:
        return size
    scale = (max_pixels / (width * height)) ** 0.5
    return max(1, int(width * scale)), max(1, int(height * scale))


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_FILE_PIXELS:
        raise UnreadableImage(f"more than {MAX_FILE_PIXELS:,} pixels")
    if max(size) > MAX_ASPECT_RATIO * min(size):
        raise UnreadableImage(
            f"{width}×{height} pixels: longer than {MAX_ASPECT_RATIO} times its width"
        )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit greys at 255; a gradient has to stay a gradient
        grey = np.asarray(image).astype(np.float32) * (255 / 65535)
        image = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(backdrop, image)
    return image.convert("RGB")


def _shrunk(image: Image.Image, max_pixels: int) -> Image.Image:
    size = fitted(image.size, max_pixels)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _what_is_wrong(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "not a PNG or JPEG file" if head else "empty file"
