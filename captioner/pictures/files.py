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
def opened(path: Path) -> Iterator[BufferedReader]:
    """The regular file at `path`, which may be a link as long as that stays within its folder.

    Raises:
        NotAFile: it is no regular file, or a link that leads out of the folder.
        OSError: it cannot be opened.
    """
    # the links are followed once, here: what replaces the file after that is no link, or not opened
    real = Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(os.path.realpath(path.parent)):
        raise NotAFile("a link that leads out of the folder")
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    if not stat.S_ISREG(real.lstat().st_mode):  # some devices do something when they are opened
        raise NotAFile("not a regular file")
    with os.fdopen(os.open(real, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotAFile("not a regular file")
        yield file


def size_of(file: BufferedReader) -> int:
    """The size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size
