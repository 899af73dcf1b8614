"""What a file holds, in a few bytes, to notice a change. Knows nothing of pictures."""

import errno
import hashlib
import stat
from pathlib import Path

from captioner.records import Stamp


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file, with the SHA-256 of all its bytes.

    Raises:
        OSError: it cannot be read.
    """
    found = path.stat()  # before it is opened: what replaces it meanwhile does not look like it
    if not stat.S_ISREG(found.st_mode):  # a FIFO would be waited for
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Stamp(found.st_size, found.st_mtime_ns, digest)


def looks_unchanged(path: Path, stamp: Stamp) -> bool:
    """Whether size and modification time of the file are those of the stamp; reads no content.

    Raises:
        OSError: the file is not there any more, or cannot be looked at.
    """
    found = path.stat()
    return (found.st_size, found.st_mtime_ns) == (stamp.bytes, stamp.mtime_ns)
