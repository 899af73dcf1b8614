"""What a run has to do: which captions are up to date, and why the others are made again.

A caption is up to date when the provenance says that it was made from the same file contents,
checkpoint revision, prompts and settings, and the caption file says what it was written with. A
caption that a person wrote or changed counts as done. Knows nothing of MLX or Prefect.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.output.entries import entry_digest, read_entry
from captioner.output.provenance import PROGRAM, Made, Provenance
from captioner.output.reviews import AGAIN, read_reviews
from captioner.pictures.names import caption_file_names
from captioner.pictures.stamps import looks_unchanged, stamp_of
from captioner.records import Gone, Job, Picture, Plan, Recipe, Skipped
from captioner.settings import Settings

MISSING = "caption missing"
IMAGE_CHANGED = "image changed"
FLAGGED = "flagged last time"
NEWER_PROGRAM = "could not be read by an earlier version"
OVERWRITE = "--overwrite"
SENT_BACK = "sent back in a review"


@dataclass(frozen=True, slots=True)
class _Found:
    """What is in the place of a picture's caption file."""

    there: bool
    image: object = None  # None when it is no caption file
    digest: bytes = b""

    @classmethod
    def at(cls, path: Path) -> "_Found":
        entry = read_entry(path)
        if not entry or not {"image", "prompt", "caption"} <= entry.keys():
            return cls(entry is not None)
        digest = entry_digest(entry["image"], entry["prompt"], entry["caption"])
        return cls(True, entry["image"], digest)


class Planner:
    """Compares the pictures that the scan found with what earlier runs made of them."""

    def __init__(
        self, directory: Path, provenance: Provenance, settings: Settings, recipe: Recipe
    ) -> None:
        """`recipe` is what a caption has to be made with to be up to date.

        Raises:
            OutputError: the provenance cannot be read.
        """
        self._directory = directory
        self._provenance = provenance
        self._settings = settings
        self._recipe = recipe
        self._made = provenance.read()
        self._reviews = read_reviews(directory)
        self._todo: list[tuple[Picture, str, str | None]] = []  # with caption file and reason
        self._up_to_date: list[str] = []
        self._edited: list[str] = []
        self._left: list[str] = []
        self._skipped: list[Skipped] = []

    def plan(self, pictures: Sequence[Picture]) -> Plan:
        """What is to be done with each of the pictures; call it once.

        Raises:
            OutputError: the provenance cannot be written.
        """
        files = caption_files(pictures, self._made, self._directory)
        for picture in pictures:
            self._sort(picture, files[picture.key])
        captioned = [made for made in self._made.values() if made.caption_file]
        return Plan(
            pictures,
            files,
            todo=[
                Job(picture, file, number, len(self._todo), reason)
                for number, (picture, file, reason) in enumerate(self._todo, start=1)
            ],
            up_to_date=self._up_to_date,
            edited=self._edited,
            left=self._left,
            skipped=self._skipped,
            gone=[Gone(m.image, m.caption_file) for m in captioned if m.image not in files],
        )

    def _sort(self, picture: Picture, file: str) -> None:
        """Put the picture where it belongs."""
        before, found = self._made.get(picture.key), _Found.at(self._directory / file)
        edited = found.there and (before is None or found.digest != before.entry_digest)
        if edited:
            self._edited.append(picture.key)
        if self._settings.overwrite:
            self._todo.append((picture, file, OVERWRITE if before or found.there else None))
            return
        review = self._reviews.get(picture.key)
        if review and review.verdict == AGAIN and review.digest == found.digest.hex():
            self._todo.append((picture, file, SENT_BACK))
            return
        if edited:
            self._up_to_date.append(picture.key)
            return
        if before is None:
            if self._settings.retry_flagged:
                self._left.append(picture.key)
            else:
                self._todo.append((picture, file, None))
            return
        why = self._why_again(picture, before, found)
        if why is None and before.skipped:
            self._skipped.append(Skipped(picture, before.skipped, before.source))
        elif why is None:
            self._up_to_date.append(picture.key)
        elif self._settings.retry_flagged and why != FLAGGED:
            self._left.append(picture.key)
        else:
            self._todo.append((picture, file, why))

    def _why_again(self, picture: Picture, before: Made, found: _Found) -> str | None:
        """Why the picture is to be captioned once more; None when it is not."""
        if self._settings.retry_flagged and before.flagged:
            return FLAGGED
        if not self._is_same_file(picture, before):
            return IMAGE_CHANGED
        if before.skipped:
            return None if before.program == PROGRAM else NEWER_PROGRAM
        if not found.there or before.recipe is None:
            return MISSING
        return self._recipe.changed_since(before.recipe)

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

    A file in the output directory that is no caption of the picture is somebody else's.
    """
    owned = {m.image: m.caption_file for m in made.values() if m.caption_file}
    keys = [picture.key for picture in pictures]
    new = [key for key in keys if key not in owned]
    taken = set(owned.values())
    taken.update(_strangers(new, taken, directory))
    files = dict(zip(new, caption_file_names(new, taken), strict=True)) | owned
    return {key: files[key] for key in keys}


def _strangers(new: Iterable[str], owned: set[str], directory: Path) -> list[str]:
    """The files that a new picture's caption file could be named like, and that are not its own."""
    there = {path.name for path in directory.glob("*.json")} - owned
    if not there:
        return []
    mine = set()
    for name in new:
        for file in {f"{Path(name).stem}.json", f"{name}.json"} & there:
            if _Found.at(directory / file).image == name:
                mine.add(file)
    return sorted(there - mine)
