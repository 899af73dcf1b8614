"""What a file holds, in a few bytes, to notice a change. Knows nothing of pictures."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from captioner.pictures.files import MAX_FILE_BYTES, opened
from captioner.records import Stamp


@dataclass(frozen=True, slots=True)
class Content:
    """All bytes of a file, with the stamp that is of these and no others."""

    data: bytes  # none of a file that is too large for a picture
    stamp: Stamp


def content_of(path: Path, root: Path | None = None) -> Content:
    """What is in a file; no link leads out of `root`.

    Raises:
        OSError: it cannot be read, or is no regular file of its folder.
    """
    with opened(path, root) as file:
        found = os.fstat(file.fileno())  # before it is read: what is written meanwhile shows
        large = found.st_size > MAX_FILE_BYTES
        data = b"" if large else file.read(found.st_size)  # Python makes room for as much
    digest = "" if large else hashlib.sha256(data).hexdigest()
    return Content(data, Stamp(found.st_size, found.st_mtime_ns, digest))


def stamp_of(path: Path, root: Path | None = None) -> Stamp:
    """The stamp of a file, with the SHA-256 of all its bytes; no link leads out of `root`.

    A file that is too large for a picture is not read: its size is reason enough.

    Raises:
        OSError: it cannot be read, or is no regular file of its folder.
    """
    with opened(path, root) as file:
        found = os.fstat(file.fileno())  # before it is read: what is written meanwhile shows
        large = found.st_size > MAX_FILE_BYTES
        digest = "" if large else hashlib.file_digest(file, "sha256").hexdigest()
    return Stamp(found.st_size, found.st_mtime_ns, digest)


def looks_unchanged(path: Path, stamp: Stamp) -> bool:
    """Whether size and modification time of the file are those of the stamp; reads no content.

    Raises:
        OSError: the file is not there any more, or cannot be looked at.
    """
    found = path.stat()
    return (found.st_size, found.st_mtime_ns) == (stamp.bytes, stamp.mtime_ns)
