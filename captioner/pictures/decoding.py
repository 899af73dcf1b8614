"""Picture files to pixels: opened with Pillow, upright, opaque, sRGB and no larger than asked.

Pillow is given what makes the pixels and nothing else (see `opened.py`). Knows nothing of
models: how pixels become patches is the processor's business.
"""

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from captioner.errors import CaptionError, UnreadableImage, first_line
from captioner.macos import why_refused
from captioner.pictures.colours import direct, opaque
from captioner.pictures.files import MAX_FILE_BYTES, OF_THE_NAME, NotAFile
from captioner.pictures.headers import turned
from captioner.pictures.kinds import DEFAULT, START, Kind, kind_by_name, kind_of
from captioner.pictures.opened import MAX_ASPECT_RATIO, Opened, check_shape
from captioner.pictures.stamps import Content, content_of
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

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture as it is to be seen, and how large it was."""

    image: Image.Image  # sRGB, upright, opaque
    size: tuple[int, int]  # width and height of all of it in pixels, as a viewer shows it


def decoded(
    content: Content,
    name: str,
    max_pixels: int,
    background: str = "white",
    formats: Iterable[str] = DEFAULT,
    *,
    remark: bool = False,
) -> Decoded:
    """The first frame of a picture as sRGB, upright, opaque, of `max_pixels` pixels at most.

    All of the file is decoded. What is transparent shows `background`, a colour as
    `PIL.ImageColor` understands it, in sRGB. Large JPEGs are decoded at a reduced scale, as libjpeg
    can. `max_pixels` 0 scales nothing. A damaged colour profile is ignored, with a warning in the
    log. `formats` is what is asked for; a file whose `name` says another format than its bytes is
    read by its bytes, and with `remark` a line in the log says so, unless it is a PNG or JPEG,
    which get mixed up every day.

    Raises:
        UnreadableImage: it is no whole picture in one of the formats, or its size or shape is
            absurd.
        CaptionError: the machine cannot decode it now.
    """
    with reasons():
        opened = _opened(content, formats, name if remark else None)
        image = opened.image
        whole = image.size
        size = fitted(whole, max_pixels)
        if opened.scalable:  # at 1.5 times the size that is asked for, it is not seen
            image.draft(None, (size[0] * 3 // 2, size[1] * 3 // 2))
        image.load()
        opened.check()
        image = direct(image, opened.depth, inverted=opened.inverted)
        if image.size != size:
            image = image.resize(size, Image.Resampling.LANCZOS)  # transparency weighs in
        image = opaque(image, opened.profile, background, name)
        turn = UPRIGHT.get(opened.orientation)
        image = image if turn is None else image.transpose(turn)
        return Decoded(image, turned(whole, opened.orientation))


def load_image(
    path: Path,
    max_pixels: int,
    background: str = "white",
    formats: Iterable[str] = DEFAULT,
    root: Path | None = None,
) -> Image.Image:
    """The same of a file: a link may lead anywhere within `root`, or within the file's own folder
    when none is named.

    Raises:
        UnreadableImage: as of `decoded`, or it cannot be opened.
        CaptionError: the machine cannot read or decode it now.
    """
    with reasons():
        content = content_of(path, root)
    return decoded(content, path.name, max_pixels, background, formats).image


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


def _opened(content: Content, formats: Iterable[str], remarked: str | None) -> Opened:
    if content.stamp.bytes > MAX_FILE_BYTES:
        raise UnreadableImage(f"more than {MAX_FILE_BYTES:,} bytes")
    kind = kind_of(content.data[:START], formats)
    if remarked:
        _remark(remarked, kind)
    # not Image.open: it warns of large pictures, and looks at the file for other formats
    opened = kind.opened(content.data)
    check_shape(opened.image.size)
    return opened


def _remark(name: str, kind: Kind) -> None:
    said = kind_by_name(name)
    if said and said is not kind and not {said.name, kind.name} <= {"PNG", "JPEG"}:
        logger.warning(
            "%s is read as the %s that it is, and not as %s", printable(name), kind.name, said.name
        )
