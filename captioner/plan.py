"""What the scan found, and what a run has to do with it.

`Scan` and `Plan` are plain classes: Prefect walks through dataclasses. Knows nothing of how a plan
is made.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from captioner.records import Job, Picture, Skipped


class Scan:
    """What the scan found."""

    def __init__(
        self,
        pictures: Iterable[Picture],
        directory: tuple[int, int] | None = None,
        ignored: str = "",
    ) -> None:
        self.pictures = tuple(pictures)  # in natural order
        self.directory = directory  # the device and the inode of what was scanned
        self.ignored: Final = ignored  # what else is in the folder, in words


@dataclass(frozen=True, slots=True)
class Gone:
    """A picture that was captioned in an earlier run, and is not in the input directory now."""

    image: str  # its key
    caption_file: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture in the place of whose caption file something else is."""

    image: str  # its key
    caption_file: str
    reason: str


class Plan:
    """What a run has to do, and what it need not do."""

    def __init__(
        self,
        pictures: Iterable[Picture] = (),
        caption_files: dict[str, str] | None = None,
        *,
        todo: Iterable[Job] = (),
        up_to_date: Iterable[str] = (),
        edited: Iterable[str] = (),
        left: Iterable[str] = (),
        later: Iterable[str] = (),
        skipped: Iterable[Skipped] = (),
        unreadable: Iterable[Unreadable] = (),
        gone: Iterable[Gone] = (),
    ) -> None:
        self.pictures = tuple(pictures)  # all that the scan found, in its order
        self.caption_files = caption_files or {}  # the caption file of each, by its key
        self.todo = tuple(todo)
        self.up_to_date = tuple(up_to_date)  # keys; captioned already, also those that are edited
        self.edited = tuple(edited)  # keys of those whose caption a person wrote or changed
        self.left = tuple(left)  # keys of what --retry-flagged does not ask for
        self.later = tuple(later)  # keys of what is beyond --limit, and left for the next run
        self.skipped = tuple(skipped)  # in an earlier run; the file is the same
        self.unreadable = tuple(unreadable)  # left as they are
        self.gone = tuple(gone)
