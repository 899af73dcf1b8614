"""One run at a time in an output directory.

The lock belongs to the open file, so it ends with the process that holds it, however that ends.
"""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from captioner.errors import InputError
from captioner.macos import why_refused
from captioner.text import printable

LOCK_FILE = ".run.lock"
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

logger = logging.getLogger(__name__)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the output directory, and keep other runs out of it while the block runs.

    Raises:
        InputError: another run holds it (the sentence says which), or it cannot be written to.
    """
    shown = printable(str(directory))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # never emptied or removed: another run may have it open
        file = os.fdopen(os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    except OSError as error:
        raise InputError(
            f"Output directory {shown} cannot be written to ({why_refused(error)}): "
            "check its permissions, or name another with --output-dir."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = printable(file.read(200).strip()) or "another process"
            raise InputError(
                f"Output directory {shown} is in use by another run ({holder}): "
                "wait until it has ended, or name another with --output-dir."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS_HERE:
                raise
            logger.warning("%s cannot be locked: see that no other run writes there", shown)
        _sign(file.fileno())
        yield


def _sign(descriptor: int) -> None:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    text = f"process {os.getpid()} on {socket.gethostname()}, since {since}\n"
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError:  # a full disk: whoever comes next is told less
        logger.debug("the lock could not be signed", exc_info=True)
