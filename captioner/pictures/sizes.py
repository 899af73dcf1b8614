"""How large pictures are, from the first bytes of their files: nothing is decoded.

A picture that has a size here may still be damaged further on; what has none here is never
captioned. Knows nothing of models.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from captioner.errors import CaptionError, UnreadableImage
from captioner.pictures.decoding import reasons
from captioner.pictures.files import MAX_FILE_BYTES, opened, size_of
from captioner.pictures.kinds import DEFAULT, START, kind_of
from captioner.pictures.opened import NO_PICTURE, check_shape
from captioner.records import Picture

AT_ONCE = 16  # files; a disk or a network volume is waited for, not the processor
PART = 100  # files that a thread looks at in a row: to hand over one takes as long as to read it
Measured = tuple[int, int] | CaptionError


def sizes(pictures: Iterable[Picture], formats: Iterable[str] = DEFAULT) -> Iterator[Measured]:
    """The width and height of each picture as a viewer shows it, or why it cannot be captioned: an
    `UnreadableImage` is about the file, any other error about the machine. In the order of the
    pictures, of which no more than are looked at are kept."""
    left, asked = iter(pictures), tuple(formats)
    looking: deque[Future[list[Measured]]] = deque()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while True:
            while len(looking) < 2 * AT_ONCE and (part := list(islice(left, PART))):
                looking.append(pool.submit(_sizes_of_a_part, asked, part))
            if not looking:
                return
            yield from looking.popleft().result()


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
