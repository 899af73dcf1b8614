"""A small JPEG of a picture that is decoded already. Knows nothing of files."""

import io

from PIL import Image

SIDE = 320  # pixels, of the longer side; twice what a phone's card is wide
QUALITY = 75


def thumbnail_of(image: Image.Image) -> bytes:
    """A JPEG of an RGB picture, `SIDE` pixels wide or high at most."""
    scale = min(1.0, SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # the mean of whole blocks of pixels does nearly all of it, in a sixth of a filter's time
    small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
