"""What a run has to do: which captions are up to date, and why the others are made again.

A caption is up to date when the provenance says that it was made from the same file contents,
checkpoint revision, prompts and settings, and the caption file says what it was written with. A
caption that a person wrote or changed counts as done. Knows nothing of MLX or Prefect.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.output.entries import NoCaptionFile, digest_of, read_entry
from captioner.output.provenance import PROGRAM, Made, Provenance
from captioner.output.reviews import AGAIN, read_reviews
from captioner.pictures.names import RESERVED, caption_file_names
from captioner.pictures.stamps import looks_unchanged, stamp_of
from captioner.plan import Gone, Plan, Unreadable
from captioner.records import Asked, Cost, Job, Picture, Recipe, Skipped
from captioner.settings import Settings
from captioner.text import printable

MISSING = "caption missing"
NOT_SAVED = "not saved last time"
IMAGE_CHANGED = "image changed"
FLAGGED = "flagged last time"
NEWER_PROGRAM = "could not be read by an earlier version"
OVERWRITE = "--overwrite"
SENT_BACK = "sent back in a review"

Ask = Callable[[Picture], Asked]  # what the model is asked about a picture
_Todo = tuple[Picture, str, str | None, Asked]  # with its caption file and the reason


@dataclass(frozen=True, slots=True)
class _Found:
    """What is in the place of a picture's caption file."""

    there: bool
    image: str = ""
    digest: bytes = b""
    modified: float = 0.0  # in seconds since 1970
    wrong: str = ""  # why it is no caption file

    @classmethod
    def at(cls, path: Path) -> "_Found":
        try:
            entry = read_entry(path)
            if entry is None:
                return cls(False)
            return cls(True, entry["image"], digest_of(entry), path.lstat().st_mtime)
        except NoCaptionFile as error:
            return cls(True, wrong=str(error))

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
        return self.digest not in before.earlier or self.modified >= before.at + 1


class Planner:
    """Compares the pictures that the scan found with what earlier runs made of them."""

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
        self._made = provenance.read()
        self._reviews = read_reviews(directory)
        self._todo: list[_Todo] = []
        self._up_to_date: list[str] = []
        self._edited: list[str] = []
        self._left: list[str] = []
        self._skipped: list[Skipped] = []
        self._unreadable: list[Unreadable] = []

    def plan(self, pictures: Sequence[Picture]) -> Plan:
        """What is to be done with each of the pictures; call it once.

        Raises:
            InputError: what is to be asked about one of them cannot be.
            OutputError: the provenance cannot be written.
        """
        files = caption_files(pictures, self._made, self._directory)
        for picture in pictures:
            self._sort(picture, files[picture.key])
        captioned = [made for made in self._made.values() if made.caption_file]
        limit = self._settings.limit or len(self._todo)
        todo, later = self._todo[:limit], self._todo[limit:]
        return Plan(
            pictures,
            files,
            todo=[
                Job(picture, file, number, len(todo), reason, asked)
                for number, (picture, file, reason, asked) in enumerate(todo, start=1)
            ],
            later=[picture.key for picture, *_ in later],
            up_to_date=self._up_to_date,
            edited=self._edited,
            left=self._left,
            skipped=self._skipped,
            unreadable=self._unreadable,
            gone=[Gone(m.image, m.caption_file) for m in captioned if m.image not in files],
        )

    def costs(self) -> list[Cost]:
        """What captions of earlier runs cost that were made by the model of the recipe."""
        return [
            made.cost
            for made in self._made.values()
            if made.cost and made.recipe and made.recipe.is_of_the_model_of(self._recipe)
        ]

    def _sort(self, picture: Picture, file: str) -> None:
        """Put the picture where it belongs."""
        before, asked = self._made.get(picture.key), self._ask(picture)
        found = _Found.at(self._directory / file).is_of(picture.key)
        if found.wrong and not self._settings.overwrite:
            self._unreadable.append(Unreadable(picture.key, file, found.wrong))
            return
        edited = found.is_edited(before)
        if edited:
            self._edited.append(picture.key)
        if self._settings.overwrite:
            why = OVERWRITE if before or found.there else None
            self._todo.append((picture, file, why, asked))
            return
        review = self._reviews.get(picture.key)
        if review and review.verdict == AGAIN and review.digest == found.digest.hex():
            self._todo.append((picture, file, SENT_BACK, asked))
            return
        if edited:
            self._up_to_date.append(picture.key)
            return
        if before is None:
            if self._settings.retry_flagged:
                self._left.append(picture.key)
            else:
                self._todo.append((picture, file, None, asked))
            return
        again = self._why_again(picture, before, found, asked)
        if again is None and before.skipped:
            self._skipped.append(Skipped(picture, before.skipped, before.source))
        elif again is None:
            self._up_to_date.append(picture.key)
        elif self._settings.retry_flagged and again != FLAGGED:
            self._left.append(picture.key)
        else:
            self._todo.append((picture, file, again, asked))

    def _why_again(self, picture: Picture, before: Made, found: _Found, asked: Asked) -> str | None:
        """Why the picture is to be captioned once more; None when it is not."""
        if self._settings.retry_flagged and before.flagged:
            return FLAGGED
        if not self._is_same_file(picture, before):
            return IMAGE_CHANGED
        if before.skipped:
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
            stamp = stamp_of(picture.path)
        except OSError:
            return False  # the picture's own validation says what is wrong
        if stamp.sha256 != before.source.sha256:
            return False
        self._provenance.add_touched(picture, stamp)
        return True


def caption_files(
    pictures: Iterable[Picture], made: Mapping[str, Made], directory: Path
) -> dict[str, str]:
    """By the key of each picture: the caption file that it had, or one that is nobody else's.

    A file in the output directory that says of itself that it is the caption of a picture is that,
    also without provenance. Every other one is somebody else's.
    """
    owned = {m.image: m.caption_file for m in made.values() if m.caption_file}
    keys = [picture.key for picture in pictures]
    if new := {key for key in keys if key not in owned}:
        claimed, strangers = _unowned(new, set(owned.values()), directory)
        owned |= claimed
        unnamed = [key for key in keys if key not in owned]
        names = caption_file_names(unnamed, {*owned.values(), *strangers})
        owned |= dict(zip(unnamed, names, strict=True))
    return {key: owned[key] for key in keys}


def _unowned(keys: set[str], owned: set[str], directory: Path) -> tuple[dict[str, str], list[str]]:
    """The caption file of each of the pictures that has one, and the files of others."""
    claims: dict[str, str] = {}
    strangers = []
    for file in sorted({path.name for path in directory.glob("*.json")} - owned - {*RESERVED}):
        found = _Found.at(directory / file)
        if found.image in keys:
            claims[found.image] = min(
                claims.get(found.image, file), file, key=_likeness(found.image)
            )
        elif found.there:
            strangers.append(file)
    return claims, strangers


def _likeness(key: str) -> Callable[[str], tuple[bool, bool, str]]:
    """Of several files that say that they are the caption of a picture, its own comes first."""
    return lambda file: (file != f"{Path(key).stem}.json", file != f"{key}.json", file)
