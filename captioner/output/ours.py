"""Opens files of the output folder, which somebody else may have put something in the place of.

Through no link, without waiting for a FIFO, and only what is a regular file: whatever lies outside
the folder stays as it is. Knows nothing of what is in the files.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotOurs(OSError):
    """What is in the place of one of our files cannot be it; `strerror` says what it is."""


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """The descriptor of a regular file, for as long as the block runs.

    Raises:
        NotOurs: it is something else, or would be written to under another name as well.
        OSError: it cannot be opened.
    """
    try:  # before it is opened: to open a device may be to act on it
        _check(os.lstat(path), flags)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        _check(os.fstat(descriptor), flags)  # it may have been put there since
        yield descriptor
    finally:
        with suppress(OSError):  # what has to last was flushed before
            os.close(descriptor)


def read_ours(path: Path, limit: int) -> bytes:
    """All that is in a file of no more than `limit` bytes.

    Raises:
        NotOurs: it is larger, or no regular file.
        OSError: it cannot be read.
    """
    with opened(path, os.O_RDONLY) as descriptor:
        size = os.fstat(descriptor).st_size
        room, data = min(size, limit) + 1, b""  # memory is taken for as much as that at once
        while part := os.read(descriptor, room - len(data)):
            data += part
        if max(size, len(data)) > limit:
            raise NotOurs(errno.EFBIG, f"it is larger than {limit >> 20} MB")
    return data


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, however little the system takes at a time.

    Raises:
        OSError: it takes no more.
    """
    left = memoryview(data)
    while left:
        if not (written := os.write(descriptor, left)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[written:]


def _check(found: os.stat_result, flags: int) -> None:
    if kind := KINDS.get(stat.S_IFMT(found.st_mode)):
        raise NotOurs(errno.EINVAL, f"it is {kind}")
    if found.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR):
        raise NotOurs(errno.EMLINK, "it has another name besides (a hard link)")
