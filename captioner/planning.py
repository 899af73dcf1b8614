"""What a run has to do: which captions are up to date, and why the others are made again.

A caption is up to date when provenance.jsonl says that it was made from the same file contents,
checkpoint revision, prompts and settings, and the caption file says what it was written with. A
caption that a person wrote or changed counts as done. Knows nothing of MLX or Prefect.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from captioner.checkpoint.find import known_revision
from captioner.fingerprints import looks_unchanged, stamp_of
from captioner.provenance import (
    PROGRAM,
    RECIPE,
    Made,
    entry_digest,
    read_provenance,
    recipe_of,
    record_touched,
)
from captioner.records import Gone, Picture, Plan, Skipped
from captioner.scanning import caption_file_names
from captioner.settings import Settings

MISSING = "caption missing"
IMAGE_CHANGED = "image changed"
MODEL_CHANGED = "model changed"
FLAGGED = "flagged last time"
NEWER_PROGRAM = "could not be read by an earlier version"
OVERWRITE = "--overwrite"


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is in the place of a picture's caption file."""

    there: bool
    image: str | None = None  # None when it is no caption file
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a caption has to be made with to be up to date."""

    recipe: tuple[object, ...]
    repo_id: str | None
    revision: str | None  # None when the checkpoint is not here: then any will do


def plan_work(pictures: list[Picture], settings: Settings) -> Plan:
    """Compare the pictures that the scan found with what earlier runs made of them.

    Raises:
        OutputError: provenance.jsonl can be neither read nor written.
    """
    made = read_provenance(settings.output_dir)
    pictures = _with_caption_files(pictures, made, settings.output_dir)
    found = {picture.name for picture in pictures}
    captioned = [m for m in made.values() if m.caption_file]
    plan = Plan(
        pictures, gone=[Gone(m.image, m.caption_file) for m in captioned if m.image not in found]
    )
    wanted = _wanted(settings)
    for picture in pictures:
        _sort(picture, made.get(picture.name), plan, wanted, settings)
    plan.todo[:] = [
        replace(picture, number=number, total=len(plan.todo))
        for number, picture in enumerate(plan.todo, start=1)
    ]
    return plan


def _wanted(settings: Settings) -> _Wanted:
    repo_id = None if settings.model else settings.repo_id
    return _Wanted(recipe_of(settings), repo_id, known_revision(settings))


def _sort(
    picture: Picture, before: Made | None, plan: Plan, wanted: _Wanted, settings: Settings
) -> None:
    """Put the picture where it belongs in the plan."""
    entry = _entry(settings.output_dir / picture.caption_file)
    edited = entry.there and (before is None or entry.digest != before.entry_digest)
    if edited:
        plan.edited.append(picture.name)
    if settings.overwrite:
        plan.todo.append(replace(picture, again=OVERWRITE if before or entry.there else ""))
        return
    if edited:
        plan.up_to_date.append(picture.name)
        return
    why = "" if before is None else _why_again(picture, before, entry, wanted, settings)
    if why is None and before and before.skipped:
        plan.skipped.append(Skipped(picture, before.skipped))
    elif why is None:
        plan.up_to_date.append(picture.name)
    elif settings.retry_flagged and why != FLAGGED:
        plan.left.append(picture.name)
    else:
        plan.todo.append(replace(picture, again=why))


def _why_again(
    picture: Picture, before: Made, entry: _Entry, wanted: _Wanted, settings: Settings
) -> str | None:
    """Why the picture is to be captioned once more; None when it is not."""
    if settings.retry_flagged and before.flagged:
        return FLAGGED
    if not _same_file(picture, before, settings.output_dir):
        return IMAGE_CHANGED
    if before.skipped:
        return None if before.program == PROGRAM else NEWER_PROGRAM
    if not entry.there:
        return MISSING
    changed = [
        name
        for name, old, new in zip(RECIPE.values(), before.recipe, wanted.recipe, strict=True)
        if old != new
    ]
    if changed:
        return f"{', '.join(changed)} changed"
    if before.repo_id != wanted.repo_id or wanted.revision not in (None, before.revision):
        return MODEL_CHANGED
    return None


def _same_file(picture: Picture, before: Made, directory: Path) -> bool:
    """Whether the file holds the same bytes; reads them only when it was modified since."""
    try:
        if looks_unchanged(picture.path, before.source):
            return True
        if picture.path.stat().st_size != before.source.bytes:
            return False
        source = stamp_of(picture.path)
    except OSError:
        return False  # the picture's own validation says what is wrong
    if source.sha256 != before.source.sha256:
        return False
    record_touched(picture, source, directory)
    return True


def _entry(path: Path) -> _Entry:
    try:
        value = json.loads(path.read_bytes())
        image, prompt, caption = value["image"], value["prompt"], value["caption"]
        return _Entry(True, image, entry_digest(image, prompt, caption))
    except FileNotFoundError:
        return _Entry(False)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return _Entry(True)


def _with_caption_files(
    pictures: list[Picture], made: dict[str, Made], directory: Path
) -> list[Picture]:
    """Each picture with the caption file that it had, or one that is nobody else's.

    A file in the output directory that is no caption of the picture is somebody else's.
    """
    owned = {m.image: m.caption_file for m in made.values() if m.caption_file}
    new = [picture.name for picture in pictures if picture.name not in owned]
    taken = set(owned.values())
    taken.update(_strangers(new, taken, directory))
    files = dict(zip(new, caption_file_names(new, taken), strict=True)) | owned
    return [replace(picture, caption_file=files[picture.name]) for picture in pictures]


def _strangers(new: Iterable[str], owned: set[str], directory: Path) -> list[str]:
    """The files that a new picture's caption file could be named like, and that are not its own."""
    there = {path.name for path in directory.glob("*.json")} - owned
    if not there:
        return []
    mine = set()
    for name in new:
        for file in {f"{Path(name).stem}.json", f"{name}.json"} & there:
            if _entry(directory / file).image == name:
                mine.add(file)
    return sorted(there - mine)
