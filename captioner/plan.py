"""What the scan found, which part of it a run takes, and what it has to do with that.

`Scan` and `Plan` are plain classes: Prefect walks through dataclasses. Knows nothing of how a plan
is made.
"""

import hashlib
import unicodedata
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar, overload

from captioner.records import Asked, Job, Picture, Skipped
from captioner.settings import Settings
from captioner.text import counted, listed, printable

T = TypeVar("T")


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


class _MadeWhenLookedAt(Sequence[T]):
    """A sequence that keeps what its members are made of, and none of them: folders are large."""

    @abstractmethod
    def _at(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        chosen = range(len(self))[place]
        return self._at(chosen) if isinstance(chosen, int) else tuple(map(self._at, chosen))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]


class Pictures(_MadeWhenLookedAt[Picture]):
    """The pictures of these keys in one directory, in the order of the keys."""

    def __init__(self, directory: Path, keys: Sequence[str]) -> None:
        self._directory, self._keys = directory, keys

    def __len__(self) -> int:
        return len(self._keys)

    def _at(self, place: int) -> Picture:
        return Picture(self._keys[place], self._directory)


class CaptionFiles(Protocol):
    """The caption file of every picture, by its key: a path within the output directory."""

    def __getitem__(self, key: str, /) -> str: ...


class Jobs(_MadeWhenLookedAt[Job]):
    """The pictures of one directory that are to be captioned, in the order in which they came."""

    def __init__(self, directory: Path, caption_files: CaptionFiles) -> None:
        self._directory, self._files = directory, caption_files
        # a place for each picture; most share reason and questions with others
        self._keys: list[str] = []
        self._reasons: list[str | None] = []
        self._asked: list[Asked] = []

    def add(self, key: str, reason: str | None, asked: Asked) -> None:
        """One more picture, why it is captioned once more, and what is asked about it."""
        self._keys.append(key)
        self._reasons.append(reason)
        self._asked.append(asked)

    def cut(self, limit: int) -> list[str]:
        """Keep the first ones, this many; returns the keys of the others."""
        later = self._keys[limit:]
        for column in (self._keys, self._reasons, self._asked):
            del column[limit:]
        return later

    def __len__(self) -> int:
        return len(self._keys)

    def _at(self, place: int) -> Job:
        key = self._keys[place]
        return Job(
            Picture(key, self._directory),
            self._files[key],
            place + 1,
            len(self),
            self._reasons[place],
            self._asked[place],
        )


class Scan:
    """What the scan found."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        directory: tuple[int, int] | None = None,
        ignored: str = "",
        folders: int = 0,
        unread: Iterable[tuple[str, str]] = (),
        *,
        deeper: str = "",
    ) -> None:
        self.pictures = pictures  # in natural order
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
        pictures: Sequence[Picture] = (),
        caption_files: CaptionFiles | None = None,
        *,
        todo: Sequence[Job] = (),
        up_to_date: Iterable[str] = (),
        edited: Iterable[str] = (),
        left: Iterable[str] = (),
        later: Iterable[str] = (),
        skipped: Iterable[Skipped] = (),
        unreadable: Iterable[Unreadable] = (),
        gone: Iterable[Earlier] = (),
        unasked: Iterable[Earlier] = (),
    ) -> None:
        self.pictures = pictures  # all that the scan found, in its order
        self.todo = todo
        self.up_to_date = tuple(up_to_date)  # keys; captioned already, also those that are edited
        self.edited = tuple(edited)  # keys of those whose caption a person wrote or changed
        self.left = tuple(left)  # keys of what --retry-flagged does not ask for
        self.later = tuple(later)  # keys of what is beyond --limit, and left for the next run
        self.skipped = tuple(skipped)  # in an earlier run; the file is the same
        self.unreadable = tuple(unreadable)  # left as they are
        self.gone = tuple(gone)  # not in the input directory any more
        # there, but where this run does not look: their captions stay what and where they are
        self.unasked = tuple(unasked)
        self.caption_files = caption_files or {}  # of all these and of `unasked`, by keys


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
