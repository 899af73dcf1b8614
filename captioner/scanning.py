"""Directories and file names: what is captioned, in which order, and where each caption goes.

Opens no picture: a file counts by its name and type alone, so a FIFO is never waited for.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from captioner.errors import InputError
from captioner.records import Picture, printable

SUFFIXES = (".png", ".jpg", ".jpeg")
RESERVED = ("captions.json", "summary.json")
MAX_NAME_BYTES = 255  # of one file name, on APFS, ext4 and most others


def check_input(directory: Path) -> None:
    """Check that the input directory can be listed.

    Raises:
        InputError: it is missing, not a directory, or cannot be listed.
    """
    shown = printable(str(directory))
    if not directory.exists():
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
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise InputError(
            f"Output directory {shown} cannot be made, since {printable(str(there))} is a file; "
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
    if entry.is_symlink():
        target = Path(entry.path).resolve()
        return target.is_relative_to(directory.resolve()) and target.is_file()
    return entry.is_file()


def natural_key(name: str) -> tuple[object, ...]:
    """A sort key that reads digits as numbers; ties are broken by the name itself."""
    parts = re.split(r"(\d+)", unicodedata.normalize("NFC", name).casefold())
    return tuple(int(p) if i % 2 else p for i, p in enumerate(parts)), name


def caption_file_names(names: Sequence[str]) -> list[str]:
    """A distinct caption file name for each picture name, whatever the letter case or Unicode form.

    `a.png` gets `a.json`. When that could be another picture's file (`a.png` beside `a.jpg`), or
    is `captions.json` or `summary.json`, the picture keeps its suffix: `a.png.json`. A name that
    is too long for the file system, or still not distinct, ends in a hash of the picture's name.
    """
    short = [Path(name).stem + ".json" for name in names]
    full = [name + ".json" for name in names]
    claims = Counter(_folded(name) for name in RESERVED)
    for brief, long in zip(short, full, strict=True):
        claims.update({_folded(brief), _folded(long)})
    chosen = [
        brief if claims[_folded(brief)] == 1 else long
        for brief, long in zip(short, full, strict=True)
    ]
    taken = Counter(map(_folded, chosen))
    usable = [taken[_folded(f)] == 1 and len(os.fsencode(f)) <= MAX_NAME_BYTES for f in chosen]
    return [
        file if good else _hashed(name)
        for name, file, good in zip(names, chosen, usable, strict=True)
    ]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _hashed(name: str) -> str:
    raw = os.fsencode(name)
    digest = hashlib.sha256(raw).hexdigest()[:12]
    stem = os.fsencode(Path(name).stem)[: MAX_NAME_BYTES - 20].decode("utf-8", "ignore")
    return f"{stem}~{digest}.json"
