"""What a run has to do: which captions are up to date, and why the others are made again.

A caption is up to date when the provenance says that it was made from the same file contents,
checkpoint revision, prompts and settings, and the caption file says what it was written with. A
caption that a person wrote or changed counts as done. Knows nothing of MLX or Prefect.
"""

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from captioner.output.entries import NoCaptionFile, digest_of, read_entry
from captioner.output.made import Made
from captioner.output.mirror import is_inside, why_not
from captioner.output.places import caption_files
from captioner.output.provenance import PROGRAM, Provenance
from captioner.output.reviews import AGAIN, read_reviews
from captioner.pictures.kinds import none_of
from captioner.pictures.stamps import looks_unchanged, stamp_of
from captioner.plan import Earlier, Jobs, Plan, Shard, Unreadable
from captioner.records import Asked, Cost, Picture, Recipe, Skipped
from captioner.settings import Settings
from captioner.text import printable

MISSING = "caption missing"
NOT_SAVED = "not saved last time"
IMAGE_CHANGED = "image changed"
FLAGGED = "flagged last time"
NEWER_PROGRAM = "could not be read by an earlier version"
OTHER_FORMATS = "could not be read in the formats of the last time"
OVERWRITE = "--overwrite"
SENT_BACK = "sent back in a review"

Ask = Callable[[Picture], Asked]  # what the model is asked about a picture


@dataclass(frozen=True, slots=True)
class _Found:
    """What is in the place of a picture's caption file."""

    path: Path
    there: bool
    image: str = ""
    digest: bytes = b""
    wrong: str = ""  # why it is no caption file

    @classmethod
    def at(cls, path: Path) -> "_Found":
        try:
            entry = read_entry(path)
        except NoCaptionFile as error:
            return cls(path, True, wrong=str(error))
        return cls(path, True, entry["image"], digest_of(entry)) if entry else cls(path, False)

    def is_of(self, image: str) -> "_Found":
        """The same, but wrong when it is the caption of another picture."""
        if not self.image or self.image == image:
            return self
        return replace(self, wrong=f"it is the caption of {printable(self.image)}")

    def is_edited(self, before: Made | None) -> bool:
        """Whether a person wrote or changed it.

        What an earlier line says was left there by a run that ended before it could replace it;
        unless it is younger than the last line: then somebody took it back.
        """
        if not self.there or before is None or self.wrong:
            return self.there
        if self.digest == before.entry_digest:
            return False
        return self.digest not in before.earlier or self.path.lstat().st_mtime >= before.at + 1


class Planner:
    """Compares the pictures that the scan found with what earlier runs made of them. For one
    thread, and to be closed: a `with` does that."""

    def __init__(
        self,
        directory: Path,
        provenance: Provenance,
        settings: Settings,
        recipe: Recipe,
        ask: Ask,
    ) -> None:
        """`recipe` is what a caption has to be made with to be up to date, and `ask` says what
        about its own picture.

        Raises:
            OutputError: the provenance cannot be read.
        """
        self._directory = directory
        self._provenance = provenance
        self._settings = settings
        self._recipe = recipe
        self._ask = ask
        self._none_of_these = none_of(settings.formats)
        self._reviews = read_reviews(directory)
        self._history = provenance.read()
        self._up_to_date: list[str] = []
        self._edited: list[str] = []
        self._left: list[str] = []
        self._skipped: list[Skipped] = []
        self._unreadable: list[Unreadable] = []
        self._why_not: dict[str, str] = {}  # by mirrored folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._history.__exit__()

    def plan(self, pictures: Sequence[Picture]) -> Plan:
        """What is to be done with each of the pictures; call it once.

        Raises:
            InputError: what is to be asked about one of them cannot be.
            OutputError: the provenance cannot be written.
        """
        keys = [picture.key for picture in pictures]
        files, others = caption_files(keys, self._history.files(), self._directory)
        shard = Shard.named(self._settings.shard)
        todo = Jobs(self._settings.input_dir, files)
        for picture in pictures:
            if shard is None or shard.holds(picture.key):
                self._sort(picture, files[picture.key], todo)
        there = {key for key in others if _is_there(self._settings.input_dir, key)}
        for key in there:
            files[key] = others[key]
        return Plan(
            pictures,
            files,
            later=todo.cut(self._settings.limit or len(todo)),
            todo=todo,
            up_to_date=self._up_to_date,
            edited=self._edited,
            left=self._left,
            skipped=self._skipped,
            unreadable=self._unreadable,
            gone=[Earlier(key, file) for key, file in others.items() if key not in there],
            unasked=[Earlier(key, file) for key, file in others.items() if key in there],
        )

    def folders(self) -> set[str]:
        """The mirrored folders, without the directory itself, that earlier runs wrote to."""
        files = (file for _, file in self._history.files())
        return {file[: file.rfind("/") + 1] for file in files if "/" in file}

    def costs(self) -> list[Cost]:
        """What captions of earlier runs cost that were made by the model of the recipe."""
        return [
            made.cost
            for made in self._history
            if made.cost and made.recipe and made.recipe.is_of_the_model_of(self._recipe)
        ]

    def _sort(self, picture: Picture, file: str, todo: Jobs) -> None:
        """Put the picture where it belongs."""
        before, asked = self._history.get(picture.key), self._ask(picture)
        # what a shard made in this round is not asked for a second time
        done = before is not None and before.by_a_shard
        overwrite = self._settings.overwrite and not done
        if why_not := self._why_no_file(file):
            self._unreadable.append(Unreadable(picture.key, file, why_not))
            return
        found = _Found.at(self._directory / file).is_of(picture.key)
        if found.wrong and not overwrite:
            self._unreadable.append(Unreadable(picture.key, file, found.wrong))
            return
        edited = found.is_edited(before)
        if edited:
            self._edited.append(picture.key)
        if overwrite:
            why = OVERWRITE if before or found.there else None
            todo.add(picture.key, why, asked)
            return
        review = self._reviews.get(picture.key)
        sent_back = review is not None and (review.verdict, review.digest) == (
            AGAIN,
            found.digest.hex(),
        )
        if sent_back and not done:
            todo.add(picture.key, SENT_BACK, asked)
            return
        if edited:
            self._up_to_date.append(picture.key)
            return
        if before is None:
            if self._settings.retry_flagged:
                self._left.append(picture.key)
            else:
                todo.add(picture.key, None, asked)
            return
        again = self._why_again(picture, before, found, asked)
        if again is None and before.skipped:
            self._skipped.append(Skipped(picture, before.skipped, before.source))
        elif again is None:
            self._up_to_date.append(picture.key)
        elif self._settings.retry_flagged and again != FLAGGED and not done:
            self._left.append(picture.key)
        else:
            todo.add(picture.key, again, asked)

    def _why_no_file(self, file: str) -> str:
        """Why nothing can be written in the folder of a caption file; empty when it can."""
        folder = file[: file.rfind("/") + 1]
        if folder and folder not in self._why_not:
            self._why_not[folder] = why_not(self._directory, folder)
        return self._why_not.get(folder, "")

    def _why_again(self, picture: Picture, before: Made, found: _Found, asked: Asked) -> str | None:
        """Why the picture is to be captioned once more; None when it is not."""
        if self._settings.retry_flagged and before.flagged and not before.by_a_shard:
            return FLAGGED
        if not self._is_same_file(picture, before):
            return IMAGE_CHANGED
        if before.skipped:
            if before.skipped.startswith("not a PNG") and before.skipped != self._none_of_these:
                return OTHER_FORMATS
            return None if before.program == PROGRAM else NEWER_PROGRAM
        if not found.there or before.recipe is None:
            return MISSING
        if found.digest != before.entry_digest:
            return NOT_SAVED
        return self._recipe.asking(asked).changed_since(before.recipe)

    def _is_same_file(self, picture: Picture, before: Made) -> bool:
        """Whether the file holds the same bytes; reads them only when it was modified since."""
        try:
            if looks_unchanged(picture.path, before.source):
                return True
            if picture.path.stat().st_size != before.source.bytes:
                return False
            stamp = stamp_of(picture.path, picture.root)
        except OSError:
            return False  # the picture's own validation says what is wrong
        if stamp.sha256 != before.source.sha256:
            return False
        self._provenance.add_touched(picture, stamp)
        return True


def _is_there(input_dir: Path, key: str) -> bool:
    """Whether a picture that the scan did not find is in the input directory all the same: in a
    folder that it did not look into, or could not."""
    if not is_inside(key):
        return False
    path = input_dir / key
    try:
        kind = path.lstat().st_mode
        if not stat.S_ISLNK(kind):
            return stat.S_ISREG(kind)
        return path.is_file() and path.resolve().is_relative_to(input_dir.resolve())
    except (FileNotFoundError, NotADirectoryError, RuntimeError):
        return False
    except OSError:  # nobody can tell
        return True
