"""Files of the input folder, opened only when they are what the scan takes for a picture.

Between the scan and the reading anybody may put something else in a picture's place: a FIFO that
would be waited for, a device that never ends, a link to somebody's secrets. Knows nothing of what
is in a file.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

MAX_FILE_BYTES = 1 << 30  # no honest picture of MAX_FILE_PIXELS needs more
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

# What is wrong with a name in a folder. Whatever else the system says is trouble of the machine: a
# disk that cannot be read, too many open files, a server of files that does not answer.
OF_THE_NAME = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO, errno.EINVAL),
    }
)


class NotAFile(OSError):
    """What has the name is no file of the folder; `strerror` says what it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EINVAL, reason)


@contextmanager
def opened(path: Path, root: Path | None = None) -> Iterator[BufferedReader]:
    """The regular file at `path`, which may be a link as long as that stays within `root`, one of
    the folders that it is in; its own when none is named.

    Raises:
        NotAFile: it is no regular file, or a link that leads out of the folder.
        OSError: it cannot be opened.
    """
    root = root or path.parent
    try:
        descriptor = _open_beneath(root, path.relative_to(root))
    except _AnotherLink:
        # the links are followed once, here: what comes into the way after that is not
        real = Path(os.path.realpath(path, strict=True))
        if not real.is_relative_to(base := os.path.realpath(root)):
            raise NotAFile("a link that leads out of the folder") from None
        descriptor = _open_beneath(Path(base), real.relative_to(base))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotAFile("not a regular file")
        yield file


def _open_beneath(root: Path, inside: Path) -> int:
    """The descriptor of the file that is `inside` of `root`, by a way without a link."""
    *folders, name = inside.parts or (os.curdir,)
    here = os.open(root, FOLDER)
    try:
        for folder in folders:
            outer, here = here, _folder_in(here, folder)
            os.close(outer)
        kind = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            raise _AnotherLink
        if not stat.S_ISREG(kind):  # some devices do something when they are opened
            raise NotAFile("not a regular file")
        return os.open(name, FILE, dir_fd=here)
    finally:
        os.close(here)


def _folder_in(here: int, name: str) -> int:
    try:
        return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=here)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):  # of a link, depending on the system
            raise _AnotherLink from None
        raise


class _AnotherLink(Exception):
    """There is a link on the way."""


def size_of(file: BufferedReader) -> int:
    """The size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size
