"""Who is at work on a shard: a file that its run writes anew every few seconds.

Locks of network file systems hold for one machine only, or for ever when a machine is gone. A sign
that is not renewed runs out, and whoever finds it so may take the shard over; the one that was
asleep meanwhile finds that out before it writes anything. Knows nothing of captions.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from captioner.errors import InputError, OutputError
from captioner.output.atomic import cannot_write, temporary_beside, write_bytes
from captioner.output.ours import NotOurs, opened, read_ours, write_all
from captioner.output.shards import lease_file, lease_files
from captioner.plan import Shard
from captioner.text import printable

RUNS_OUT_SECONDS = 90.0  # a network file system may show a file as it was a minute ago
RENEWED_SECONDS = 15.0
LOOK_SECONDS = 2.0
MAX_BYTES = 1000

logger = logging.getLogger(__name__)


class Lease:
    """A shard of a folder that this run holds."""

    def __init__(self, directory: Path, shard: Shard) -> None:
        self.shard: Final = shard
        self._directory = directory
        self._path = lease_file(directory, shard)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        who = f"process {os.getpid()} on {socket.gethostname()}, since {since}"
        self._mark = f"{who}\n{secrets.token_hex(8)}\n"

    def take(self) -> None:
        """Take the shard, when need be after the run that had it has given no sign of life for long
        enough.

        Raises:
            InputError: another run is at work on it.
            OutputError: the folder cannot be written to.
        """
        try:
            self._take()
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def _take(self) -> None:
        if said := _still_at_work(self._path, self.shard):
            raise InputError(
                f"{str(self.shard).capitalize()} in {printable(str(self._directory))} is being "
                f"captioned by another run ({_holder(said)}): wait until it has ended."
            )
        write_bytes(self._path, self._mark.encode())

    def check(self) -> None:
        """Check that this run still has the shard.

        Raises:
            OutputError: another one has it now, or the sign is gone or cannot be read.
        """
        which = f"{str(self.shard).capitalize()} in {printable(str(self._directory))}"
        try:
            found = _read(self._path)
        except OSError as error:
            raise OutputError(
                f"{which} cannot be read ({error.strerror or error}): see that the folder "
                "is there. The captions saved so far are safe."
            ) from error
        if not found.startswith(self._mark):
            whose = f"{_holder(found)} took it over" if found else "its sign is not there"
            raise OutputError(
                f"{which} is not this run's any more: {whose}. The captions saved so far are safe."
            )

    def renew(self) -> None:
        """Say that the run is at work, unless the shard is another one's now."""
        with suppress(OSError):  # the folder may come back
            if _read(self._path).startswith(self._mark):
                with opened(self._path, os.O_RDWR) as descriptor:
                    write_all(descriptor, f"{self._mark}{time.time():.0f}\n".encode())

    def give_up(self) -> None:
        """Take the sign away."""
        with suppress(OSError):
            if _read(self._path).startswith(self._mark):
                self._path.unlink()


@contextmanager
def held(directory: Path, shard: Shard) -> Iterator[Lease]:
    """Hold a shard while the block runs.

    Raises:
        InputError: another run is at work on it.
        OutputError: the folder cannot be written to.
    """
    lease = Lease(directory, shard)
    lease.take()
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED_SECONDS):
            lease.renew()

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join(RENEWED_SECONDS)
        lease.give_up()


def at_work(directory: Path) -> str:
    """Which shards are being captioned in a folder, in words; empty when none is. A sign that is
    not renewed is looked at until it has run out.

    Raises:
        OSError: the folder cannot be read.
    """
    for path, shard in lease_files(directory):
        if said := _still_at_work(path, shard):
            return f"{shard}: {_holder(said)}"
    return ""


def signed(directory: Path) -> str:
    """The same by the signs as they are: for whoever knows that somebody is at work.

    Raises:
        OSError: the folder cannot be read.
    """
    for path, shard in lease_files(directory):
        if (said := _read(path)) and not _is_of_a_dead_process(said):
            return f"{shard}: {_holder(said)}"
    return ""


def _still_at_work(path: Path, shard: Shard) -> str:
    """What a sign says, when its run is at work: it is looked at until it is renewed or has run
    out; empty when it is not."""
    before = _read(path)
    if not before or _is_of_a_dead_process(before):
        return ""
    logger.info("Looking whether %s is still at work on %s", _holder(before), shard)
    until = time.monotonic() + RUNS_OUT_SECONDS
    while time.monotonic() < until and not _has_run_out(path):
        time.sleep(LOOK_SECONDS)
        if (now := _read(path)) != before:
            return now
    return ""


def _has_run_out(path: Path) -> bool:
    """Whether a sign is old by the clock of the file system that it is on."""
    probe = temporary_beside(path)
    try:
        written = path.stat().st_mtime
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime - written > RUNS_OUT_SECONDS
    except FileNotFoundError:
        return True
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> str:
    """What a sign says; empty when there is none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return read_ours(path, MAX_BYTES).decode(errors="replace")
    except (FileNotFoundError, NotOurs):
        return ""


def _holder(said: str) -> str:
    return printable(said.partition("\n")[0]) or "another process"


def _is_of_a_dead_process(said: str) -> bool:
    """Whether a process of this machine said it that is not there any more."""
    words = said.partition(",")[0].split(" ")  # process 12 on host
    if words[0] != "process" or words[2:] != ["on", socket.gethostname()]:
        return False
    try:
        os.kill(int(words[1]), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return True
    except PermissionError:
        return False
    return False
