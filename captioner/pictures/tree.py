"""All entries of a tree of folders, one folder after another, however deep it is.

Links to folders are not followed, and no folder is looked into twice, so that the way always ends.
Knows nothing of pictures.
"""

import os
from collections.abc import Callable, Generator
from pathlib import Path

from captioner.macos import why_refused

Entry = os.DirEntry[str]


class Tree:
    """A folder and those below it, to be looked through once."""

    def __init__(
        self, top: Path, *, deep: bool = True, leave: Callable[[str, Entry], bool] | None = None
    ) -> None:
        """`leave` says which folders below are left alone, by the path of the folder that each is
        in and its entry; hidden ones always are."""
        self.folders = 0  # that were looked into, without the first
        self.refused: list[tuple[str, str]] = []  # that cannot be listed, with the reason
        self._top, self._deep, self._leave = top, deep, leave

    def entries(self) -> Generator[tuple[str, Entry]]:
        """Every entry with the path of its folder below the first: empty, or with a `/` at the end.

        Raises:
            OSError: the first folder cannot be listed.
        """
        found = self._top.stat()
        seen = {(found.st_dev, found.st_ino)}
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._top / folder) as entries:
                    for entry in entries:
                        yield folder, entry
                        if self._deep and self._is_to_be_seen(folder, entry, seen):
                            folders.append(f"{folder}{entry.name}/")
            except OSError as error:
                if not folder:
                    raise
                self.refused.append((folder.rstrip("/"), why_refused(error)))
            else:
                self.folders += bool(folder)

    def _is_to_be_seen(self, folder: str, entry: Entry, seen: set[tuple[int, int]]) -> bool:
        if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
            return False
        if self._leave and self._leave(folder, entry):
            return False
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return True  # why it cannot be listed is found out in its turn
        place = found.st_dev, found.st_ino
        if place in seen:  # a folder that is mounted below itself
            return False
        seen.add(place)
        return True
