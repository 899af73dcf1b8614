"""Directories and file names: what is captioned, in which order, and where each caption goes.

Opens no picture: a file counts by its name and type alone, so a FIFO is never waited for.
"""

import hashlib
import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from captioner.errors import InputError
from captioner.records import Picture
from captioner.text import printable

SUFFIXES = (".png", ".jpg", ".jpeg")
RESERVED = ("captions.json", "summary.json")
MAX_NAME_BYTES = 255  # of one file name, on APFS, ext4 and most others


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


def check_output(directory: Path) -> None:
    """Check that the output directory can be written to, or made; makes nothing yet.

    Raises:
        InputError: it cannot.
    """
    shown = printable(str(directory))
    there = directory.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise InputError(
            f"Output directory {shown} cannot be made, since {printable(str(there))} "
            f"is {'a file' if _exists(there) else 'a link to nowhere'}; "
            "name a directory with --output-dir."
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"Output directory {shown} cannot be written to; check its permissions "
            "or name another with --output-dir."
        )


def scan(directory: Path) -> list[Picture]:
    """The PNG, JPG and JPEG files of `directory`, in natural order (`diagram2`, `diagram10`).

    Hidden files, macOS's `._` doubles, anything that is not a regular file, and links that lead
    out of the directory are left out.

    Raises:
        InputError: the directory cannot be listed any more.
    """
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if _is_picture(entry, directory)]
    except OSError as error:
        raise InputError(
            f"Input directory {printable(str(directory))} cannot be listed: {error.strerror}."
        ) from None
    names.sort(key=natural_key)
    files = caption_file_names(names)
    return [
        Picture(directory / name, name, file, number, len(names))
        for number, (name, file) in enumerate(zip(names, files, strict=True), start=1)
    ]


def _is_picture(entry: "os.DirEntry[str]", directory: Path) -> bool:
    if entry.name.startswith(".") or not entry.name.lower().endswith(SUFFIXES):
        return False
    if not entry.is_symlink():
        return entry.is_file()
    try:
        target = Path(entry.path).resolve(strict=True)
        return target.is_relative_to(directory.resolve()) and target.is_file()
    except (OSError, RuntimeError):  # it leads nowhere, in circles (RuntimeError before 3.13)
        return False


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


def caption_file_names(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A distinct caption file name for each picture name, whatever the letter case or Unicode form.

    `a.png` gets `a.json`. When that could be another picture's file (`a.png` beside `a.jpg`), is
    `captions.json` or `summary.json`, or is `taken`, the picture keeps its suffix: `a.png.json`. A
    name that is too long for the file system, or still not distinct, ends in a hash of the
    picture's name.
    """
    short = [Path(name).stem + ".json" for name in names]
    full = [name + ".json" for name in names]
    others = {_folded(name) for name in (*RESERVED, *taken)}
    claims = Counter(others)
    for brief, long in zip(short, full, strict=True):
        claims.update({_folded(brief), _folded(long)})
    chosen = [
        brief if claims[_folded(brief)] == 1 else long
        for brief, long in zip(short, full, strict=True)
    ]
    uses = Counter(map(_folded, chosen)) + Counter(others)
    usable = [uses[_folded(f)] == 1 and len(os.fsencode(f)) <= MAX_NAME_BYTES for f in chosen]
    used = {_folded(file) for file, good in zip(chosen, usable, strict=True) if good} | others
    return [
        file if good else _hashed(name, used)
        for name, file, good in zip(names, chosen, usable, strict=True)
    ]


def _folded(name: str) -> str:
    """The same for all names that a file system may take for one (Unicode's definition D145)."""
    folded = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFD", folded)


def _hashed(name: str, used: set[str]) -> str:
    """A name that is not in `used`, and is from now on."""
    raw = os.fsencode(name)
    stem = os.fsencode(Path(name).stem)[: MAX_NAME_BYTES - 20].decode("utf-8", "ignore")
    for attempt in itertools.count():  # a picture could be named like another one's hash
        digest = hashlib.sha256(raw + b"/" * attempt).hexdigest()[:12]
        file = f"{stem}~{digest}.json"
        if _folded(file) not in used:
            break
    used.add(_folded(file))
    return file
