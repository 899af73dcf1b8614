"""Makes a process that is started with this folder on its path take its machine for a Mac.

It answers `captioner.macos.on_macos`, and does what of macOS that module leans on: the version, the
flag of a file that was evicted to iCloud (and that reading it fails), and F_FULLFSYNC, which is
noted. Torch and torchvision cannot be imported, as in an install without them.

MAC_VERSION is the version, MAC_EVICTED the name of the file, MAC_MAY_NOT_FETCH the policy that
launchd sets, MAC_FLUSHES where flushes are noted.
"""

import builtins
import errno
import fcntl
import io
import os
import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

for name in ("torch", "torchvision"):
    sys.modules[name] = None  # type: ignore[assignment]

from captioner import macos

FULL = 51
EVICTED = os.environ.get("MAC_EVICTED")
_stat, _open, _os_open, _fcntl = os.stat, io.open, os.open, fcntl.fcntl


def _is_evicted(path: Any) -> bool:
    return EVICTED is not None and not isinstance(path, int) and Path(path).name == EVICTED


def _flagged_stat(path: Any, **more: Any) -> Any:
    found = _stat(path, **more)
    if not _is_evicted(path):
        return found
    fields = {field: getattr(found, field) for field in dir(found) if field.startswith("st_")}
    return SimpleNamespace(**fields, st_flags=macos.SF_DATALESS)


def _refusing(real: Any) -> Any:
    def opened(path: Any, *rest: Any, **more: Any) -> Any:
        if _is_evicted(path):
            raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK), str(path))
        return real(path, *rest, **more)

    return opened


def _noted_fcntl(descriptor: Any, command: int, *rest: Any) -> Any:
    if command != FULL:
        return _fcntl(descriptor, command, *rest)
    os.fsync(descriptor)
    with _open(os.environ["MAC_FLUSHES"], "a") as notes:
        notes.write(Path(f"/proc/self/fd/{descriptor}").readlink().name + "\n")
    return 0


macos.on_macos = lambda: True
macos.may_fetch = lambda: "MAC_MAY_NOT_FETCH" not in os.environ
platform.mac_ver = lambda *_: (os.environ.get("MAC_VERSION", ""), ("", "", ""), "arm64")
fcntl.F_FULLFSYNC = FULL  # type: ignore[attr-defined]
fcntl.fcntl = _noted_fcntl
os.stat = _flagged_stat
os.open = _refusing(_os_open)
io.open = builtins.open = _refusing(_open)
