"""What only a Mac has, each behind one function that does nothing elsewhere.

docs/mac.md names the sources. Knows nothing of pictures, models or runs.
"""

import ctypes
import errno
import fcntl
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SF_DATALESS = 0x40000000  # sys/stat.h; Python's `stat` has it from 3.13 on
MATERIALIZE_DATALESS_FILES, OF_THE_PROCESS, OFF = 3, 0, 1  # IOPOL_…, sys/resource.h
WIRES_MEMORY = 15  # the macOS from which on Metal can keep memory wired for a process
SIPS_SECONDS = 60  # for one picture

logger = logging.getLogger(__name__)


def on_macos() -> bool:
    """Whether this is a Mac; all else here asks it first."""
    return sys.platform == "darwin"


@contextmanager
def kept_awake(wanted: bool) -> Iterator[None]:
    """Keep the Mac from sleeping because nobody uses it, while the block runs.

    The assertion ends with this process, however that ends. A lid that is closed and a battery that
    is empty prevail. Source: caffeinate(8).
    """
    if not (wanted and on_macos()):
        yield
        return
    command = ["caffeinate", "-i", "-m", "-w", str(os.getpid())]
    try:
        # a session of its own: after Ctrl-C the run has still to save what is finished
        keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        logger.warning("The Mac may fall asleep: caffeinate cannot be run (%s)", error.strerror)
        yield
        return
    try:
        yield
    finally:
        keeper.terminate()
        keeper.wait()


def is_evicted(path: Path) -> bool:
    """Whether the file's contents are in iCloud, or with another such provider, and not here.

    Looking does not fetch them. Source: chflags(2), Apple's technical note TN3150.
    """
    try:
        return on_macos() and bool(getattr(path.stat(), "st_flags", 0) & SF_DATALESS)
    except OSError:
        return False


def may_fetch() -> bool:
    """Whether this process may fetch what was evicted; launchd lets only those that ask for it.

    Source: getiopolicy_np(3), and <sys/resource.h> for the numbers.
    """
    policy = getattr(ctypes.CDLL(None), "getiopolicy_np", None)
    return policy is None or policy(MATERIALIZE_DATALESS_FILES, OF_THE_PROCESS) != OFF


def why_refused(error: OSError) -> str:
    """Why the system refused, in its words, and what helps where macOS has a reason of its own.

    Source: getiopolicy_np(3) for EDEADLK, which a read raises when the process may not fetch what
    was evicted; Apple's user guide ("Control access to files and folders on Mac") for EPERM.
    """
    said = error.strerror or str(error)
    if not on_macos():
        return said
    if error.errno == errno.EDEADLK:
        return (
            "its contents are in iCloud and may not be fetched by this process: choose Download "
            "Now in Finder, or set MaterializeDatalessFiles as docs/mac.md says"
        )
    if error.errno == errno.EPERM:
        return (
            f"{said}; allow it in System Settings → Privacy & Security → Files and Folders, "
            "for the app that started this"
        )
    return said


def flush_to_disk(descriptor: int) -> None:
    """Bring what was written onto the disk itself, past the cache of the drive.

    Apple's fsync(2) hands the data to the drive and says that F_FULLFSYNC is for what has to
    survive a loss of power. A file system that does not know it (of a network) gets an fsync.

    Raises:
        OSError: it cannot be written.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)  # no other system has it
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(descriptor)


def wires_no_memory() -> str | None:
    """The version of a macOS that cannot keep a model's weights wired in memory; None elsewhere.

    Source: the docstring of `mlx.core.set_wired_limit`.
    """
    version = platform.mac_ver()[0] if on_macos() else ""
    return version if version and int(version.split(".")[0]) < WIRES_MEMORY else None


def heic_as_tiff(data: bytes) -> bytes:
    """A HEIC picture as a TIFF that macOS' own ImageIO makes of it, with its orientation and its
    colour profile. Source: sips(1).

    Raises:
        OSError: it cannot be converted; the message says why.
    """
    with tempfile.TemporaryDirectory() as name:
        picture, made = Path(name) / "picture.heic", Path(name) / "picture.tiff"
        picture.write_bytes(data)
        command = ["sips", "-s", "format", "tiff", str(picture), "--out", str(made)]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SIPS_SECONDS,
                check=True,
            )
            return made.read_bytes()
        except subprocess.TimeoutExpired:
            raise TimeoutError(errno.ETIMEDOUT, "sips takes too long") from None
        except FileNotFoundError:
            raise OSError("sips made no picture of it") from None
        except subprocess.CalledProcessError:
            raise OSError("sips cannot convert it") from None
