"""A picture from its validation to its pixels, while its file may be changed by somebody else.

Knows nothing of models, or of what is done with the pixels.
"""

from PIL import Image

from captioner.pictures.decoding import check_image, load_image, reasons
from captioner.pictures.formats import UnreadableImage
from captioner.pictures.stamps import looks_unchanged, stamp_of
from captioner.records import Job, Picture, Skipped, Stamp, Valid


def validate(job: Job) -> Valid | Skipped:
    """Decode the whole picture: its size, and the file that it was; otherwise why it cannot be."""
    stamp: Stamp | None = None
    try:
        with reasons():
            stamp = stamp_of(job.picture.path)
        return Valid(job, check_image(job.picture.path), stamp)
    except UnreadableImage as error:
        return Skipped(job.picture, str(error), stamp)


class Reader:
    """Reads a picture, and notes which file contents it was made of."""

    def __init__(
        self, picture: Picture, max_pixels: int, background: str, stamp: Stamp | None = None
    ) -> None:
        """`stamp` is the file as it was validated; without one it is read as it is now."""
        self._path = picture.path
        self._max_pixels = max_pixels
        self._background = background
        self.stamp = stamp

    def read(self) -> Image.Image:
        """The picture as the model is to see it; `stamp` is then that of the file it was read from.

        Raises:
            UnreadableImage: it cannot be decoded any more, or is being written to.
        """
        for _ in range(2):  # once more when it changed since the validation, or just now
            if self.stamp is None or not self._is(self.stamp):
                with reasons():
                    self.stamp = stamp_of(self._path)
            image = load_image(self._path, self._max_pixels, self._background)
            if self._is(self.stamp):
                return image
        raise UnreadableImage("the file is being written to; run again when it is whole")

    def _is(self, stamp: Stamp) -> bool:
        try:
            return looks_unchanged(self._path, stamp)
        except OSError:
            return False
