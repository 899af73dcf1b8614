"""What the scan found, which part of it a run takes, and what it has to do with that.

`Scan` and `Plan` are plain classes: Prefect walks through dataclasses. Knows nothing of how a plan
is made.
"""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from captioner.records import Job, Picture, Skipped
from captioner.settings import Settings
from captioner.text import counted, listed, printable


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of a folder, which machines caption at the same time."""

    number: int  # from 1
    of: int

    @classmethod
    def named(cls, name: str | None) -> Self | None:
        """The shard that `3/12` names; None when nothing does."""
        return cls(*map(int, name.split("/"))) if name else None

    @property
    def name(self) -> str:
        """For example `3/12`."""
        return f"{self.number}/{self.of}"

    def __str__(self) -> str:
        return f"shard {self.number} of {self.of}"

    def holds(self, key: str) -> bool:
        """Whether the picture of this key falls to it, on whatever machine that is asked."""
        return shard_of(key, self.of) == self.number


def shard_of(key: str, shards: int) -> int:
    """The number of the shard to which a key falls, from 1.

    File systems differ in the Unicode form of a name; its NFC form decides.
    """
    name = unicodedata.normalize("NFC", key).encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(name, digest_size=8).digest()
    return int.from_bytes(digest) % shards + 1


class Scan:
    """What the scan found."""

    def __init__(
        self,
        pictures: Iterable[Picture],
        directory: tuple[int, int] | None = None,
        ignored: str = "",
        folders: int = 0,
        unread: Iterable[tuple[str, str]] = (),
        *,
        deeper: str = "",
    ) -> None:
        self.pictures = tuple(pictures)  # in natural order
        self.directory = directory  # the device and the inode of what was scanned
        self.ignored: Final = ignored  # what else is in the folder, in words
        self.folders: Final = folders  # below the folder, that were looked into
        self.unread: Final = tuple(unread)  # folders that cannot be listed, each with the reason
        self.deeper: Final = deeper  # in words, when the pictures are all in folders below


@dataclass(frozen=True, slots=True)
class Earlier:
    """A picture that was captioned in an earlier run, and that this one did not find."""

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
        gone: Iterable[Earlier] = (),
        unasked: Iterable[Earlier] = (),
    ) -> None:
        self.pictures = tuple(pictures)  # all that the scan found, in its order
        self.todo = tuple(todo)
        self.up_to_date = tuple(up_to_date)  # keys; captioned already, also those that are edited
        self.edited = tuple(edited)  # keys of those whose caption a person wrote or changed
        self.left = tuple(left)  # keys of what --retry-flagged does not ask for
        self.later = tuple(later)  # keys of what is beyond --limit, and left for the next run
        self.skipped = tuple(skipped)  # in an earlier run; the file is the same
        self.unreadable = tuple(unreadable)  # left as they are
        self.gone = tuple(gone)  # not in the input directory any more
        # there, but where this run does not look: their captions stay what and where they are
        self.unasked = tuple(unasked)
        self.caption_files = dict(caption_files or {})  # of all these and of `unasked`, by keys
        self.caption_files |= {earlier.image: earlier.caption_file for earlier in self.unasked}


def unasked_in_words(plan: Plan, settings: Settings) -> str:
    """What is to be known of captions of pictures that this run does not look for."""
    keys = [earlier.image for earlier in plan.unasked]
    what = counted(len(keys), "caption of a picture", "captions of pictures")
    below = not settings.recursive and any("/" in key for key in keys)
    advice = "; --recursive looks into the folders below" if below else ""
    return f"{what} that this run does not look for ({listed(map(printable, keys))}){advice}"


def unreadable_together(plan: Plan) -> list[list[Unreadable]]:
    """What is in the place of caption files, by the reason: a link in the place of a folder is in
    the way of all that would be in it."""
    together: dict[str, list[Unreadable]] = defaultdict(list)
    for each in plan.unreadable:
        together[each.reason].append(each)
    return list(together.values())


def unreadable_in_words(together: Sequence[Unreadable]) -> str:
    """The same in a sentence, of files with one reason."""
    files = listed(printable(each.caption_file) for each in together)
    pictures = listed(printable(each.image) for each in together)
    reason = together[0].reason
    if len(together) == 1:
        what = f"{files} is no caption file ({reason}): mend it, or remove it"
    else:
        what = f"{files} are no caption files ({reason}): mend them, or remove what is there"
    return f"{what} to have {pictures} captioned again"
