"""The small pictures of the gallery, kept beside its page under the hashes of what they are of.

So none is shown for a picture that has changed since, and the same picture has one. Whatever keeps
them from being written is said once: the gallery shows the pictures themselves then. Knows nothing
of the page.
"""

import logging
import os
import re
import threading
from contextlib import suppress
from pathlib import Path

from captioner.macos import why_refused
from captioner.output.atomic import TEMPORARY, write_bytes
from captioner.output.mirror import path_in
from captioner.output.ours import read_ours
from captioner.pictures.stamps import looks_unchanged
from captioner.records import Stamp

FOLDER = "gallery/thumbnails"
NAME = re.compile(r"[0-9a-f]{64}\.jpg")
MAX_BYTES = 1 << 20  # of one; the largest has some 50,000

logger = logging.getLogger(__name__)


class Thumbnails:
    """Those of one output folder; any number of threads may add some."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._refused = threading.Event()  # said already

    def add(self, stamp: Stamp, data: bytes) -> None:
        """Write the thumbnail of a file with this stamp, whole or not at all."""
        try:
            if name := _name(stamp):
                # no flush: when the power goes, the page shows the picture itself
                write_bytes(path_in(self._directory, name, make=True), data, sync=False)
        except OSError as error:
            if not self._refused.is_set():
                self._refused.set()
                logger.warning(
                    "Thumbnails cannot be written (%s): the gallery shows the pictures themselves.",
                    why_refused(error),
                )

    def of(self, stamp: Stamp | None, picture: Path) -> str | None:
        """The path of a picture's thumbnail within the output folder; None without one, or when
        the picture is not the file any more that the stamp is of."""
        with suppress(OSError, ValueError):
            if stamp and (name := _name(stamp)) and looks_unchanged(picture, stamp):
                return name if (self._directory / name).is_file() else None
        return None

    def read(self, stamp: Stamp | None, picture: Path) -> bytes | None:
        """The thumbnail itself."""
        with suppress(OSError):
            if name := self.of(stamp, picture):
                return read_ours(self._directory / name, MAX_BYTES)
        return None

    def tidy(self, kept: set[str]) -> None:
        """Remove all but those of files with these hashes, and what was left half written."""
        folder = self._directory / FOLDER
        with suppress(OSError):
            if folder.parent.is_symlink() or folder.is_symlink():
                return
            for entry in os.scandir(folder):
                is_old = NAME.fullmatch(entry.name) and entry.name.removesuffix(".jpg") not in kept
                if is_old or TEMPORARY.fullmatch(entry.name):
                    Path(entry.path).unlink(missing_ok=True)


def _name(stamp: Stamp) -> str:
    """The path within the output folder; empty when somebody wrote something else for a hash."""
    name = f"{stamp.sha256}.jpg"
    return f"{FOLDER}/{name}" if NAME.fullmatch(name) else ""
