"""A picture from its validation to its pixels, while its file may be changed by somebody else.

Knows nothing of models, or of what is done with the pixels.
"""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from captioner.errors import UnreadableImage
from captioner.pictures.decoding import check_image, load_image, reasons
from captioner.pictures.kinds import DEFAULT
from captioner.pictures.stamps import looks_unchanged, stamp_of
from captioner.pictures.thumbnail import thumbnail_of
from captioner.records import Job, Picture, Skipped, Stamp, Valid


def validate(job: Job, formats: Iterable[str] = DEFAULT) -> Valid | Skipped:
    """Decode the whole picture: its size, and the file that it was; otherwise why it cannot be.

    Raises:
        CaptionError: the machine cannot read it now, which says nothing about the picture.
    """
    path, root = job.picture.path, job.picture.root
    stamp = _stamp(path, root)
    try:
        size = check_image(path, formats, root)
        if stamp is None:  # it can be read only since a moment ago
            with reasons():
                stamp = stamp_of(path, root)
        return Valid(job, size, stamp)
    except UnreadableImage as error:
        return Skipped(job.picture, str(error), stamp)


class Reader:
    """Reads a picture, and notes which file contents it was made of."""

    def __init__(
        self,
        picture: Picture,
        max_pixels: int,
        background: str,
        stamp: Stamp | None = None,
        formats: Iterable[str] = DEFAULT,
        *,
        thumbnail: bool = False,
    ) -> None:
        """`stamp` is the file as it was validated; without one it is read as it is now.
        `thumbnail` says that one is to be made of what is read."""
        self._path, self._root = picture.path, picture.root
        self._max_pixels = max_pixels
        self._background = background
        self._formats = tuple(formats)
        self.stamp = stamp
        self.thumbnail: bytes | None = None  # a JPEG, once the picture was read
        self._wants_thumbnail = thumbnail

    def read(self) -> Image.Image:
        """The picture as the model is to see it; `stamp` is then that of the file it was read from.

        Raises:
            UnreadableImage: it cannot be decoded any more, or is being written to.
            CaptionError: the machine cannot read it now.
        """
        for _ in range(2):  # once more when it changed since the validation, or just now
            if not self._is_current():
                self.stamp = _stamp(self._path, self._root)
            image = load_image(
                self._path, self._max_pixels, self._background, self._formats, self._root
            )
            if self._is_current():
                self.thumbnail = thumbnail_of(image) if self._wants_thumbnail else None
                return image
        raise UnreadableImage("the file is being written to; run again when it is whole")

    def _is_current(self) -> bool:
        try:
            return self.stamp is not None and looks_unchanged(self._path, self.stamp)
        except OSError:
            return False


def _stamp(path: Path, root: Path) -> Stamp | None:
    """None when it cannot be read: the decoding says why, in its own words."""
    try:
        return stamp_of(path, root)
    except OSError:
        return None
