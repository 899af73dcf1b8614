"""The folders of an output directory that mirror those of the input: made when a file needs them,
and never gone through when one is a link, since that may lead anywhere.

Knows nothing of what the files mean.
"""

import errno
import os
import stat
from pathlib import Path

from captioner.output.ours import NotOurs
from captioner.pictures.names import MAX_NAME_BYTES


def path_in(directory: Path, file: str | Path) -> Path:
    """The path of `file`, a path within the directory, by folders that are folders, or not there.

    Raises:
        NotOurs: a folder on the way is a link, or something else.
        OSError: a folder on the way cannot be looked at.
    """
    *folders, _ = Path(file).parts
    here = directory
    for folder in folders:
        here /= folder
        try:
            mode = here.lstat().st_mode
        except FileNotFoundError:
            break
        if not stat.S_ISDIR(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "no folder"
            raise NotOurs(errno.ENOTDIR, f"what should be its folder, {here.name}, is {kind}")
    return directory / file


def path_to_write(directory: Path, file: str | Path) -> Path:
    """The same, with its folders, which are made where they are not there.

    Raises:
        NotOurs: a folder on the way is a link, or something else.
        OSError: a folder cannot be made.
    """
    path = path_in(directory, file)
    if path.parent != directory:
        path.parent.mkdir(parents=True, exist_ok=True)
        path_in(directory, file)
    return path


def why_not(directory: Path, folder: str) -> str:
    """Why nothing can be written into a mirrored folder; empty when it can, or can be made."""
    try:
        there = path_in(directory, folder + "any").parent
        while not there.exists():
            there = there.parent
    except NotOurs as error:
        return str(error.strerror)
    except OSError as error:
        return f"its folder cannot be looked at: {error.strerror}"
    if there != directory and not os.access(there, os.W_OK | os.X_OK):
        return "its folder may not be written to"
    return ""


def is_inside(file: str) -> bool:
    """Whether a path that is read from a file leads to a place within the directory, that is not
    hidden."""
    parts = file.split("/")
    return "\0" not in file and all(
        part and not part.startswith(".") and len(os.fsencode(part)) <= MAX_NAME_BYTES
        for part in parts
    )
