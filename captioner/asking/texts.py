"""Texts that a person keeps in files: prompts and presets. Read once, whole, and within a bound.

A FIFO is not waited for and a device not read. Knows nothing of what a text is for.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from captioner.answers import MAX_PROMPT_LENGTH
from captioner.macos import why_refused
from captioner.pictures.files import NotAFile, opened

BYTES_OF_A_CHARACTER = 4  # at most, in UTF-8
BYTE_ORDER_MARK = 3


class NoText(Exception):
    """There is no text that can be used; `str()` says why, in half a sentence."""


def text_in(path: Path, longest: int = MAX_PROMPT_LENGTH) -> str:
    """The text in a file that a person named, without the ends of its last line.

    Raises:
        NoText: the file is not there, cannot be read, or holds no text of `longest` characters at
            most.
    """
    with _reasons(), _regular(path) as file:
        return _text(file, longest)


def text_within(path: Path, root: Path) -> str | None:
    """The same of a file that is found in a folder, through no link out of `root`; None without
    one.

    Raises:
        NoText: it is there, and cannot be used.
    """
    if not os.path.lexists(path):
        return None
    with _reasons(), opened(path, root) as file:
        return _text(file, MAX_PROMPT_LENGTH)


@contextmanager
def _reasons() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NoText("it is not there") from None
    except NotAFile as error:
        raise NoText(f"it is {error.strerror}") from None
    except OSError as error:
        raise NoText(why_refused(error)) from None
    except UnicodeError:
        raise NoText("it is no text in UTF-8") from None


@contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    if not stat.S_ISREG(path.stat().st_mode):  # to open a device may be to act on it
        raise NotAFile("not a regular file")
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotAFile("not a regular file")
        yield file


def _text(file: BinaryIO, longest: int) -> str:
    bound = BYTE_ORDER_MARK + BYTES_OF_A_CHARACTER * longest
    data = file.read(bound + 2)  # the last line may end in two more
    text = data.decode("utf-8-sig", "strict" if len(data) <= bound else "ignore").rstrip("\r\n")
    if "\0" in text:
        raise NoText("it is no text in UTF-8")
    if len(text) > longest:
        raise NoText(f"it is longer than {longest:,} characters")
    if not text.strip():
        raise NoText("it is empty")
    return text
