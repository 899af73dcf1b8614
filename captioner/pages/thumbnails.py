"""Pictures made small enough to travel inside a page. Knows nothing of the page."""

import base64
import io
from pathlib import Path

from captioner.errors import CaptionError
from captioner.pictures.decoding import load_image

SIDE = 160  # pixels, of the longer side
QUALITY = 70
MAX_BYTES = 15_000  # noise compresses badly; such a picture is seen at a lower quality


def thumbnail(path: Path, root: Path | None = None) -> str | None:
    """A small JPEG of the picture as a `data:` address; None when it cannot be decoded."""
    data = thumbnail_bytes(path, root)
    return None if data is None else "data:image/jpeg;base64," + base64.b64encode(data).decode()


def thumbnail_bytes(path: Path, root: Path | None = None) -> bytes | None:
    """A small JPEG of the picture; None when it cannot be decoded."""
    try:
        image = load_image(path, 4 * SIDE * SIDE, root=root)
    except CaptionError:
        return None
    image.thumbnail((SIDE, SIDE))
    for quality in (QUALITY, QUALITY // 3):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= MAX_BYTES:
            break
    return file.getvalue()
