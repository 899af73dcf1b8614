"""The folders of an output directory that mirror those of the input: made when a file needs them,
and never gone through when one is a link, since that may lead anywhere.

Knows nothing of what the files mean.
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from captioner.output.atomic import remove_temporary_files
from captioner.output.ours import NotOurs
from captioner.pictures.names import MAX_NAME_BYTES, MAX_PATH_BYTES


def path_in(directory: Path, file: str | Path, *, make: bool = False) -> Path:
    """The path of `file`, a path within the directory, through folders that are folders. One that
    is not there is made, or ends the way.

    Raises:
        NotOurs: a folder on the way is a link, or something else, or the way is too long.
        OSError: one cannot be looked at, or made.
    """
    *folders, _ = os.fspath(file).split("/")
    here = os.fspath(directory)
    for folder in folders:  # strings: a run does this for every picture of a tree
        here = f"{here}/{folder}"
        mode = _mode(here)
        if mode is None and make:
            with suppress(FileExistsError):  # by another thread, a moment ago
                Path(here).mkdir()
            mode = _mode(here)
        if mode is None:
            break
        if not stat.S_ISDIR(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "no folder"
            raise NotOurs(errno.ENOTDIR, f"what should be its folder, {folder}, is {kind}")
    return directory / file


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NotOurs(error.errno, "its path is too long") from None
        raise


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


def tidy(directory: Path, folders: Iterable[str]) -> None:
    """Remove what earlier runs left half written in the directory and in these folders of it;
    nobody else may be writing there."""
    remove_temporary_files(directory)
    for folder in folders:
        with suppress(NotOurs, FileNotFoundError, PermissionError):  # the plan says so
            remove_temporary_files(path_in(directory, folder + "any").parent)


def is_inside(file: str) -> bool:
    """Whether a path that is read from a file leads to a place within the directory, that is not
    hidden."""
    try:
        size = len(os.fsencode(file))
    except UnicodeEncodeError:  # half of a surrogate pair, which no file system names
        return False
    return (
        "\0" not in file
        and size < MAX_PATH_BYTES
        and all(
            part and not part.startswith(".") and len(os.fsencode(part)) <= MAX_NAME_BYTES
            for part in file.split("/")
        )
    )
