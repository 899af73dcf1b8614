"""A picture from its file to its pixels, read once, while somebody else may write to the file.

Knows nothing of models, or of what is done with the pixels.
"""

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from PIL import Image

from captioner.errors import CaptionError, UnreadableImage
from captioner.pictures.decoding import decoded, reasons
from captioner.pictures.kinds import DEFAULT
from captioner.pictures.stamps import content_of, looks_unchanged
from captioner.pictures.thumbnail import thumbnail_of
from captioner.records import Job, Skipped, Stamp

# Pictures are read on many threads, and each may need 700 MB until it is scaled down. One core is
# left to the device; four of them keep ahead of any.
AT_ONCE = max(1, min(4, (os.cpu_count() or 1) - 1))

_reading = threading.BoundedSemaphore(AT_ONCE)


class Valid:
    """A picture that was decoded, and its pixels until somebody takes them."""

    def __init__(
        self,
        job: Job,
        size: tuple[int, int],
        stamp: Stamp,
        image: Image.Image,
        thumbnail: bytes | None = None,
    ) -> None:
        self.job: Final = job
        self.size: Final = size  # width and height of all of it in pixels, as a viewer shows it
        self.stamp: Final = stamp  # the file that it was read from
        self.thumbnail: Final = thumbnail  # a small JPEG of it; None where no gallery is wanted
        self._held = [image]

    def take(self) -> Image.Image:
        """The picture as the model is to see it, given away once: Prefect keeps what a task run
        returned until the flow run ends, and must not keep the pixels."""
        return self._held.pop()


def validate(
    job: Job,
    formats: Iterable[str] = DEFAULT,
    max_pixels: int = 0,
    background: str = "white",
    *,
    thumbnail: bool = False,
) -> Valid | Skipped:
    """Read and decode the whole picture; otherwise why it cannot be.

    `thumbnail` says that one is to be made of it; all else is as of `decoded`.

    Raises:
        CaptionError: the machine cannot read it now, or somebody writes to it, which says nothing
            about the picture.
    """
    path, root = job.picture.path, job.picture.root
    for _ in range(2):  # once more when it changed meanwhile
        stamp: Stamp | None = None
        result: Valid | Skipped
        try:
            with _reading, reasons():
                content = content_of(path, root)
                stamp = content.stamp
                found = decoded(content, path.name, max_pixels, background, formats, remark=True)
                small = thumbnail_of(found.image) if thumbnail else None
                result = Valid(job, found.size, stamp, found.image, small)
        except UnreadableImage as error:
            result = Skipped(job.picture, str(error), stamp)
        if stamp is None or _is_now(path, stamp):
            return result
    raise CaptionError("the file is being written to")


def _is_now(path: Path, stamp: Stamp) -> bool:
    try:
        return looks_unchanged(path, stamp)
    except OSError:
        return False
