"""The input directory, and on request those below it: which pictures there are, in which order.

Opens no picture: a file counts by its name and type alone, so a FIFO is never waited for.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path

from captioner.errors import InputError, InputGone
from captioner.macos import why_refused
from captioner.pictures.ignored import (
    DEEPER,
    FOLDER_LINK,
    HIDDEN,
    LIBRARY,
    LINK,
    SPECIAL,
    SUBFOLDER,
    in_words,
    kind_of,
)
from captioner.pictures.kinds import DEFAULT, others, suffixes
from captioner.pictures.tree import Entry, Tree
from captioner.plan import Pictures, Scan
from captioner.text import printable

# what Finder shows as one file: folders of a photo program, with previews and names that it chose
LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")
FOLDER_PROMPT = "prompt.txt"  # what is to be asked about the pictures of its folder
THUMBNAIL = re.compile(r"(.*/)?gallery/thumbnails/[0-9a-f]{64}\.jpg")  # below an output directory
MOST_LOOKED_AT = 100_000  # entries, when all that is asked is whether there are pictures below


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


def scan(
    directory: Path,
    formats: Iterable[str] = DEFAULT,
    *,
    recursive: bool = False,
    output_dir: Path | None = None,
) -> Scan:
    """The files of `directory` in these formats, and those of the folders below it when it is
    `recursive`, in natural order (`diagram2`, `diagram10`), a folder's own before those below it.

    Hidden files and folders, macOS's `._` doubles, anything that is not a regular file, and links
    that lead out of the directory are left out; the scan says how many there are. So are links to
    folders, the libraries of photo programs, and what a run has made: `output_dir`, and the small
    pictures of a gallery.

    Raises:
        InputError: the directory cannot be listed any more.
    """
    looking = _Looking(directory, suffixes(formats), output_dir)
    found: dict[str, list[str]] = defaultdict(list)  # keys by folder
    ignored: Counter[str] = Counter()
    tree = Tree(directory, deep=recursive, leave=looking.leaves)
    try:
        place = _identity(directory)
        for folder, entry in tree.entries():
            kind = looking.ignored_as(entry, recursive)
            if kind is None and not THUMBNAIL.fullmatch(folder + entry.name):
                found[folder].append(folder + entry.name)
            elif kind:
                ignored[kind] += 1
    except OSError as error:
        raise InputError(
            f"Input directory {printable(str(directory))} cannot be listed: {why_refused(error)}."
        ) from None
    keys: list[str] = []
    for folder in sorted(found, key=_folders_key):  # one by one: sort keys are larger than keys
        keys += sorted(found.pop(folder), key=natural_key)
    is_deeper = not keys and SUBFOLDER in ignored and looking.finds_any()
    return Scan(
        Pictures(directory, keys),
        place,
        in_words(ignored, others(formats, ignored)),
        tree.folders,
        sorted(tree.refused),
        deeper=DEEPER if is_deeper else "",
    )


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


class _Looking:
    """What counts in the folders that are looked through."""

    def __init__(self, directory: Path, ends: tuple[str, ...], output_dir: Path | None) -> None:
        self._directory = directory
        self._ends = ends  # of the names of pictures
        self._real = directory.resolve()
        self._output: tuple[int, int] | None = None
        if output_dir is not None:
            with suppress(OSError):  # it is not there yet
                self._output = _identity(output_dir)

    def leaves(self, folder: str, entry: Entry) -> bool:
        """Whether a folder is left alone."""
        if entry.name.lower().endswith(LIBRARIES):
            return True
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:  # why it cannot be listed is found out in its turn
            return False
        return (found.st_dev, found.st_ino) == self._output

    def ignored_as(self, entry: Entry, recursive: bool) -> str | None:
        """What an entry is when it is no picture of the directory: empty for what is no news, such
        as a prompt, which is read later; None when it is one."""
        if entry.name.startswith("."):
            return HIDDEN
        if entry.name == FOLDER_PROMPT:
            return ""
        try:
            if entry.is_symlink():
                return self._link(entry, recursive)
            if not entry.is_dir():
                return _kind(entry.name, entry.is_file(), self._ends)
            if not recursive:
                return SUBFOLDER
            return LIBRARY if entry.name.lower().endswith(LIBRARIES) else ""
        except (OSError, RuntimeError):  # it leads nowhere, in circles (RuntimeError before 3.13)
            return LINK

    def finds_any(self) -> bool:
        """Whether there are pictures in folders below; not all of a very large tree is seen."""
        with closing(Tree(self._directory, leave=self.leaves).entries()) as below:
            return any(
                self.ignored_as(entry, recursive=True) is None
                for _, entry in islice(below, MOST_LOOKED_AT)
            )

    def _link(self, entry: Entry, recursive: bool) -> str | None:
        target = Path(entry.path).resolve(strict=True)
        if target.is_relative_to(self._real) and target.is_file():
            return _kind(entry.name, True, self._ends)
        return FOLDER_LINK if recursive and target.is_dir() else LINK


def _kind(name: str, regular: bool, ends: tuple[str, ...]) -> str | None:
    """The suffix of a file that is no picture, such as `HEIC`, or what else keeps it from being."""
    if not regular:
        return SPECIAL
    return None if name.lower().endswith(ends) else kind_of(Path(name).suffix)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or a parent that may not be entered
        return False


def natural_key(key: str) -> tuple[object, ...]:
    """A sort key that reads digits as numbers, a folder's own pictures before those below it; ties
    are broken by the names themselves."""
    folder, _, name = key.rpartition("/")
    folded = Path(_folded(name))
    # without the suffix: `a.png` before `a1.png`
    return _folders_key(folder), _numbered(folded.stem), folded.suffix, name


@lru_cache(maxsize=1024)
def _folders_key(folder: str) -> tuple[object, ...]:
    return tuple((_numbered(_folded(part)), part) for part in folder.split("/") if part)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _numbered(text: str) -> tuple[object, ...]:
    parts = re.split(r"(\d+)", text)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts))
