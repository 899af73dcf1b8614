"""Pictures made small enough to travel inside a page. Knows nothing of the page."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from captioner.errors import CaptionError
from captioner.pictures.decoding import load_image

SIDE = 160  # pixels, of the longer side
QUALITY = 70
MAX_BYTES = 15_000  # noise compresses badly; such a picture is seen at a lower quality


def thumbnail(path: Path, formats: Iterable[str], root: Path | None = None) -> str | None:
    """A small JPEG of the picture as a `data:` address; None when it cannot be decoded."""
    data = thumbnail_bytes(path, formats, root)
    return None if data is None else "data:image/jpeg;base64," + base64.b64encode(data).decode()


def thumbnail_bytes(path: Path, formats: Iterable[str], root: Path | None = None) -> bytes | None:
    """A small JPEG of the picture; None when it cannot be decoded, or is in none of the formats."""
    try:
        image = load_image(path, 4 * SIDE * SIDE, formats=formats, root=root)
    except CaptionError:
        return None
    image.thumbnail((SIDE, SIDE))
    for quality in (QUALITY, QUALITY // 3):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= MAX_BYTES:
            break
    return file.getvalue()
