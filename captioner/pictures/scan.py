"""The input directory: which pictures there are, and in which order.

Opens no picture: a file counts by its name and type alone, so a FIFO is never waited for.
"""

import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

from captioner.errors import InputError, InputGone
from captioner.macos import why_refused
from captioner.pictures.ignored import HIDDEN, LINK, SPECIAL, SUBFOLDER, in_words, kind_of
from captioner.plan import Scan
from captioner.records import Picture
from captioner.text import printable

SUFFIXES = (".png", ".jpg", ".jpeg")


def check_input(directory: Path) -> None:
    """Check that the input directory can be listed.

    Raises:
        InputError: it is missing, not a directory, or cannot be listed.
    """
    shown = printable(str(directory))
    if not _exists(directory):
        raise InputError(
            f"Input directory {shown} does not exist; create it or name another with --input-dir."
        )
    if not directory.is_dir():
        raise InputError(f"{shown} is not a directory; name a directory with --input-dir.")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise InputError(f"Input directory {shown} cannot be read; check its permissions.")


def scan(directory: Path) -> Scan:
    """The PNG, JPG and JPEG files of `directory`, in natural order (`diagram2`, `diagram10`).

    Hidden files, macOS's `._` doubles, anything that is not a regular file, and links that lead
    out of the directory are left out; the scan says how many there are.

    Raises:
        InputError: the directory cannot be listed any more.
    """
    names: list[str] = []
    ignored: Counter[str] = Counter()
    try:
        place = _identity(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                if kind := _ignored_as(entry, directory):
                    ignored[kind] += 1
                else:
                    names.append(entry.name)
    except OSError as error:
        raise InputError(
            f"Input directory {printable(str(directory))} cannot be listed: {why_refused(error)}."
        ) from None
    names.sort(key=natural_key)
    pictures = (Picture(name, directory / name) for name in names)
    return Scan(pictures, place, in_words(ignored))


def check_still_there(scan: Scan | None, directory: Path) -> None:
    """Check that the directory is the one that was scanned.

    A volume that is unmounted leaves an empty directory in its place, in which every picture looks
    as if somebody had removed it.

    Raises:
        InputGone: it is not there any more, or another one is in its place.
    """
    try:
        if scan is None or scan.directory in (None, _identity(directory)):
            return
        how = "another directory is in its place now"
    except OSError as error:
        how = why_refused(error)
    raise InputGone(
        f"Input directory {printable(str(directory))} has gone away ({how}). The captions saved "
        "so far are safe; see that it is there again (is its volume mounted?), and run again."
    )


def _identity(directory: Path) -> tuple[int, int]:
    found = directory.stat()
    return found.st_dev, found.st_ino


def _ignored_as(entry: "os.DirEntry[str]", directory: Path) -> str | None:
    """What an entry is when it is no picture of the directory; None when it is one."""
    if entry.name.startswith("."):
        return HIDDEN
    try:
        if not entry.is_symlink():
            return SUBFOLDER if entry.is_dir() else _kind(entry.name, entry.is_file())
        target = Path(entry.path).resolve(strict=True)
        inside = target.is_relative_to(directory.resolve()) and target.is_file()
        return _kind(entry.name, True) if inside else LINK
    except (OSError, RuntimeError):  # it leads nowhere, in circles (RuntimeError before 3.13)
        return LINK


def _kind(name: str, regular: bool) -> str | None:
    """The suffix of a file that is no picture, such as `HEIC`, or what else keeps it from being."""
    if not regular:
        return SPECIAL
    return None if name.lower().endswith(SUFFIXES) else kind_of(Path(name).suffix)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or a parent that may not be entered
        return False


def natural_key(name: str) -> tuple[object, ...]:
    """A sort key that reads digits as numbers; ties are broken by the name itself."""
    folded = Path(unicodedata.normalize("NFC", name).casefold())
    parts = re.split(r"(\d+)", folded.stem)  # without the suffix: `a.png` before `a1.png`
    return tuple(int(p) if i % 2 else p for i, p in enumerate(parts)), folded.suffix, name
