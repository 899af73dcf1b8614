"""Decoded samples of any kind to plain colours: 8 bits, opaque, in sRGB.

Knows nothing of files.
"""

import io
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from captioner.errors import first_line
from captioner.text import printable

PLAIN = ("L", "LA", "RGB", "RGBA", "CMYK")
# what Pillow has besides, and what of that loses nothing of it
OTHERS = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}

ROWS = 64  # that are made into 64-bit numbers at a time

logger = logging.getLogger(__name__)


def direct(image: Image.Image, depth: int, *, inverted: bool = False) -> Image.Image:
    """The picture as L, LA, RGB, RGBA or CMYK: no palette, no 16 bits, no colour for see-through.

    `depth` is the number of bits of a sample in the file, whose units that colour is in;
    `inverted` says that greys of more than 8 bits are white at zero.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image, inverted)
    if image.mode in ("I", "F"):
        return _stretched(image, inverted)
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
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in PLAIN else image.convert(OTHERS.get(image.mode, "RGB"))


def _from_16_bits(image: Image.Image, inverted: bool) -> Image.Image:
    # Pillow clips 16-bit greys at 255; a gradient has to stay a gradient
    samples = np.asarray(image)
    wide = samples.astype(np.uint32)
    if inverted:
        np.subtract(65_535, wide, out=wide)
    wide *= 255  # in place: a picture may have 178 million samples
    wide += 32_895
    wide >>= 16
    grey = Image.fromarray(wide.astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is None:
        return grey
    alpha = Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _stretched(image: Image.Image, inverted: bool) -> Image.Image:
    """Greys of 32 bits, which say nothing of what is white.

    Floating-point ones from 0 to 1 are taken as that, all others from the darkest to the brightest.
    """
    samples = np.asarray(image)
    low, high = _range(samples, image.mode == "F")
    grey = np.empty(samples.shape, np.uint8)
    for start in range(0, len(samples), ROWS):
        with np.errstate(invalid="ignore"):  # what is no number at all
            wide = samples[start : start + ROWS].astype(np.float64)
        wide = (np.clip(np.where(np.isfinite(wide), wide, low), low, high) - low) / (high - low)
        grey[start : start + ROWS] = 255 * (1 - wide if inverted else wide) + 0.5
    return Image.fromarray(grey)


def _range(samples: npt.NDArray[Any], floating: bool) -> tuple[float, float]:
    finite = samples[np.isfinite(samples)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if floating and low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + max(1.0, abs(low)))


def opaque(image: Image.Image, profile: bytes | None, background: str, name: str) -> Image.Image:
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
