"""How large pictures are, from the first bytes of their files: nothing is decoded.

A picture that has a size here may still be damaged further on; what has none here is never
captioned. Knows nothing of models.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

from captioner.errors import CaptionError, UnreadableImage
from captioner.pictures.decoding import reasons
from captioner.pictures.files import MAX_FILE_BYTES, opened, size_of
from captioner.pictures.kinds import DEFAULT, START, kind_of
from captioner.pictures.opened import NO_PICTURE, check_shape
from captioner.records import Picture

AT_ONCE = 16  # files; a disk or a network volume is waited for, not the processor
PART = 100  # files that a thread looks at in a row: to hand over one takes as long as to read it
Measured = tuple[int, int] | CaptionError


def sizes(pictures: Iterable[Picture], formats: Iterable[str] = DEFAULT) -> list[Measured]:
    """The width and height of each picture as a viewer shows it, or why it cannot be captioned: an
    `UnreadableImage` is about the file, any other error about the machine."""
    every = list(pictures)
    parts = [every[start : start + PART] for start in range(0, len(every), PART)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(chain.from_iterable(pool.map(partial(_sizes_of_a_part, tuple(formats)), parts)))


def _sizes_of_a_part(formats: tuple[str, ...], pictures: list[Picture]) -> list[Measured]:
    return [measured(picture, formats) for picture in pictures]


def measured(picture: Picture, formats: tuple[str, ...]) -> Measured:
    """The same of one picture."""
    try:
        with reasons():
            size = _size(picture, formats)
            if not all(size):
                raise UnreadableImage(NO_PICTURE)
            check_shape(size)
            return size
    except CaptionError as error:
        return error


def _size(picture: Picture, formats: Iterable[str]) -> tuple[int, int]:
    with opened(picture.path, picture.root) as file:
        if size_of(file) > MAX_FILE_BYTES:
            raise UnreadableImage(f"more than {MAX_FILE_BYTES:,} bytes")
        kind = kind_of(file.read(START), formats)
        file.seek(0)
        return kind.size(file)
