"""One run at a time in an output directory, or any number of shards.

The lock belongs to the open file, so it ends with the process that holds it, however that ends.
"""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from captioner.errors import InputError, OutputError
from captioner.macos import why_refused
from captioner.output.lease import at_work, signed
from captioner.output.ours import NotOurs, opened
from captioner.text import printable

LOCK_FILE = ".run.lock"
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

logger = logging.getLogger(__name__)


class Lock:
    """The lock file of an output directory, which this run has open."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self._directory, self._descriptor = directory, descriptor

    def check(self) -> None:
        """Check that the directory is the one that was locked, and that it still is locked.

        Raises:
            OutputError: it was moved, removed or replaced, or its lock file was removed.
        """
        try:
            there = os.lstat(self._directory / LOCK_FILE)
            if os.path.samestat(there, os.fstat(self._descriptor)):
                return
        except OSError:
            logger.debug("the lock file cannot be looked at", exc_info=True)
        raise OutputError(
            f"Output directory {printable(str(self._directory))} is not the one that this run "
            f"began with: it was moved, replaced or emptied, or its {LOCK_FILE} was removed. "
            "The captions saved so far are where they were; run again."
        )


@contextmanager
def locked(directory: Path, *, shared: bool = False) -> Iterator[Lock]:
    """Make the output directory, and keep other runs out of it while the block runs; those that
    share it with this one, which are shards, are let in.

    Raises:
        InputError: another run holds it (the sentence says which), or it cannot be written to.
    """
    with ExitStack() as held:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # never emptied before it is locked, and never removed: another run may have it open
            file = held.enter_context(opened(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT))
            _lock(file, directory, shared)
        except NotOurs as error:
            raise InputError(
                f"{printable(str(directory / LOCK_FILE))} cannot be the lock of a run, since "
                f"{error.strerror}: remove it, or name another directory with --output-dir."
            ) from error
        except OSError as error:
            raise InputError(
                f"Output directory {printable(str(directory))} cannot be written to "
                f"({why_refused(error)}): check its permissions, or name another with --output-dir."
            ) from error
        if not shared:
            _sign(file)
        yield Lock(directory, file)


def _lock(descriptor: int, directory: Path, shared: bool) -> None:
    shown, holder = printable(str(directory)), ""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        # a lock of a network file system may hold for one machine only
        holder = "" if shared else at_work(directory)
    except BlockingIOError:
        said = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        said = said or "another process"
        holder = said if shared else signed(directory) or said
    except OSError as error:
        if error.errno not in NO_LOCKS_HERE:
            raise
        logger.warning("%s cannot be locked: see that no other run writes there", shown)
    if holder:
        raise InputError(
            f"Output directory {shown} is in use by another run ({printable(holder)}): "
            "wait until it has ended, or name another with --output-dir."
        )


def _sign(descriptor: int) -> None:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    text = f"process {os.getpid()} on {socket.gethostname()}, since {since}\n"
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError:  # a full disk: whoever comes next is told less
        logger.debug("the lock could not be signed", exc_info=True)
