"""Picture files to pixels: opened with Pillow, upright, opaque, sRGB and no larger than asked.

Pillow is given what makes the pixels and nothing else (see `opened.py`). Knows nothing of
models: how pixels become patches is the processor's business.
"""

import logging
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from captioner.errors import CaptionError, UnreadableImage, first_line
from captioner.macos import why_refused
from captioner.pictures import files
from captioner.pictures.colours import direct, opaque
from captioner.pictures.files import MAX_FILE_BYTES, OF_THE_NAME, NotAFile
from captioner.pictures.headers import turned
from captioner.pictures.kinds import DEFAULT, START, Kind, kind_by_name, kind_of
from captioner.pictures.opened import MAX_ASPECT_RATIO, Opened, check_shape
from captioner.text import printable

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


def check_image(
    path: Path, formats: Iterable[str] = DEFAULT, root: Path | None = None
) -> tuple[int, int]:
    """Decode the whole file and return its size (width, height) in pixels, as a viewer shows it.

    `formats` is what is asked for. A file whose name says another format than its bytes is read by
    its bytes; a line in the log says so unless it is a PNG or JPEG, which get mixed up every day.
    A link may lead anywhere within `root`, or within the file's own folder when none is named.

    Raises:
        UnreadableImage: it is no whole picture in one of the formats, or its size or shape is
            absurd.
        CaptionError: the machine cannot read or decode it now.
    """
    with reasons(), _decoding:
        opened = _opened(path, formats, root, remark=True)
        width, height = opened.image.size
        # all of a JPEG's data is decoded at an eighth of its size too, in half of the time
        _scale(opened, (width // 8, height // 8))
        opened.image.load()
        opened.check()
    return turned((width, height), opened.orientation)


def load_image(
    path: Path,
    max_pixels: int,
    background: str = "white",
    formats: Iterable[str] = DEFAULT,
    root: Path | None = None,
) -> Image.Image:
    """The first frame of a picture as sRGB, upright, opaque, of `max_pixels` pixels at most.

    What is transparent shows `background`, a colour as `PIL.ImageColor` understands it, in sRGB.
    Large JPEGs are decoded at a reduced scale, as libjpeg can. `max_pixels` 0 scales nothing.
    A damaged colour profile is ignored, with a warning in the log. `root` as in `check_image`.

    Raises:
        UnreadableImage: it is no whole picture in one of the formats, or its size or shape is
            absurd.
        CaptionError: the machine cannot read or decode it now.
    """
    with reasons():
        opened = _opened(path, formats, root)
        image = opened.image
        size = fitted(image.size, max_pixels)
        # at 1.5 times the size that is asked for, libjpeg's coarser scaling is not seen
        _scale(opened, (size[0] * 3 // 2, size[1] * 3 // 2))
        image.load()
        image = direct(image, opened.depth, inverted=opened.inverted)
        if image.size != size:
            image = image.resize(size, Image.Resampling.LANCZOS)  # transparency weighs in
        image = opaque(image, opened.profile, background, path.name)
        turn = UPRIGHT.get(opened.orientation)
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


def _opened(
    path: Path, formats: Iterable[str], root: Path | None, *, remark: bool = False
) -> Opened:
    with files.opened(path, root) as file:
        if (size := files.size_of(file)) > MAX_FILE_BYTES:
            raise UnreadableImage(f"more than {MAX_FILE_BYTES:,} bytes")
        data = file.read(size)  # Python makes room for as much as it is asked for
    kind = kind_of(data[:START], formats)
    if remark:
        _remark(path.name, kind)
    # not Image.open: it warns of large pictures, and looks at the file for other formats
    opened = kind.opened(data)
    check_shape(opened.image.size)
    return opened


def _remark(name: str, kind: Kind) -> None:
    said = kind_by_name(name)
    if said and said is not kind and not {said.name, kind.name} <= {"PNG", "JPEG"}:
        logger.warning(
            "%s is read as the %s that it is, and not as %s", printable(name), kind.name, said.name
        )


def _scale(opened: Opened, size: tuple[int, int]) -> None:
    """Have a JPEG decoded at about that size; all else stays as it is."""
    if opened.scalable:
        opened.image.draft(None, (max(1, size[0]), max(1, size[1])))
