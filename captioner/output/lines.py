"""A file of JSON lines that is only ever appended to: whole lines, however a run ends.

Nothing that somebody else wrote is ever cut off. Knows nothing of what the lines say.
"""

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from captioner.macos import flush_to_disk
from captioner.output.ours import NotOurs, opened, write_all

MAX_LINE = 64 << 20  # bytes; no prompt and caption take as much
BLOCK = 1 << 16


class Lines:
    """The file, which any number of threads may append to, and one process at a time."""

    def __init__(self, path: Path, opening: bytes) -> None:
        """Every line of ours begins with `opening`."""
        self.path = path
        self._opening = opening
        self._appending = threading.Lock()

    def read(self) -> Iterator[bytes]:
        """The lines, but for a last one that is torn; none without a file.

        Raises:
            NotOurs: it is no regular file, or has a line that is longer than any of ours.
            OSError: it is there and cannot be read.
        """
        try:
            with opened(self.path, os.O_RDONLY) as descriptor:
                file = os.fdopen(descriptor, "rb", closefd=False)
                while line := file.readline(MAX_LINE + 1):
                    if len(line) > MAX_LINE:
                        raise NotOurs(errno.EFBIG, f"it has a line of {MAX_LINE >> 20} MB or more")
                    if line.endswith(b"\n") or not self._is_torn(line):
                        yield line
        except FileNotFoundError:
            return

    def mend(self) -> None:
        """Cut off the last line when a run that was killed wrote a part of it, and end it when
        only that is missing.

        Raises:
            NotOurs: it is no regular file.
            OSError: it cannot be mended.
        """
        with suppress(FileNotFoundError), opened(self.path, os.O_RDWR) as descriptor:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                start = _start_of_last_line(file)
                file.seek(start)
                last = file.read(min(os.fstat(descriptor).st_size - start, MAX_LINE))
            if start + len(last) < os.fstat(descriptor).st_size or not last:
                return
            if self._is_torn(last):
                os.ftruncate(descriptor, start)
            else:
                os.lseek(descriptor, 0, os.SEEK_END)
                write_all(descriptor, b"\n")

    def append(self, line: str, *, sync: bool) -> None:
        """Append a line; with `sync` it is on the disk afterwards.

        Raises:
            NotOurs: it is no regular file.
            OSError: it cannot be written; the file is as it was.
        """
        # backslashreplace: a file name that is not UTF-8 becomes the JSON escape of its bytes
        data = (line + "\n").encode(errors="backslashreplace")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with self._appending, opened(self.path, flags) as descriptor:
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # what could not be undone
                data = b"\n" + data
            try:
                write_all(descriptor, data)
                if sync:
                    flush_to_disk(descriptor)
            except BaseException:
                with suppress(OSError):  # the next one begins a line of its own
                    os.ftruncate(descriptor, end)
                raise

    def _is_torn(self, line: bytes) -> bool:
        """Whether it is the beginning of a line of ours, and no more than that."""
        with suppress(ValueError, RecursionError):
            json.loads(line)
            return False
        written = line.rstrip(b"\0")  # what a file system puts behind it when the power goes
        return written.startswith(self._opening) or self._opening.startswith(written)


def _start_of_last_line(file: BinaryIO) -> int:
    position = file.seek(0, os.SEEK_END)
    while position:
        position -= (step := min(position, BLOCK))
        file.seek(position)
        if (found := file.read(step).rfind(b"\n")) >= 0:  # all of it: it reads on when it got less
            return position + found + 1
    return 0
