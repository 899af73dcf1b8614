"""Which caption file each picture has: the one that it had, or one that is nobody else's.

Knows nothing of what has to be captioned.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from captioner.output.entries import NoCaptionFile, read_entry
from captioner.output.made import Made
from captioner.output.mirror import path_in
from captioner.pictures.names import (
    MAX_PATH_BYTES,
    RESERVED,
    caption_file_names,
    folded,
    mirrored_folder,
)
from captioner.records import Picture


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
        longest = MAX_PATH_BYTES - len(os.fsencode(directory.absolute())) - 2  # a `/` and the end
        folders = {"", *(mirrored_folder(key, longest) for key in new)}
        claimed, strangers = _unowned(new, set(owned.values()), directory, folders)
        owned |= claimed
        # as if all were new: a run that goes on where another one stopped gives the same names, and
        # so do runs of shards, of which each sees the others' captions or not
        names = dict(zip(keys, caption_file_names(keys, strangers, longest), strict=True))
        taken = {*map(folded, owned.values())}
        owned |= {
            key: names[key] for key in keys if key not in owned and folded(names[key]) not in taken
        }
        if unnamed := [key for key in keys if key not in owned]:
            others = caption_file_names(unnamed, {*owned.values(), *strangers}, longest)
            owned |= dict(zip(unnamed, others, strict=True))
    return {key: owned[key] for key in keys}


def _unowned(
    keys: set[str], owned: set[str], directory: Path, folders: set[str]
) -> tuple[dict[str, str], list[str]]:
    """The caption file of each of the pictures that has one, and the files of others, in these
    folders of the directory."""
    claims: dict[str, str] = {}
    strangers = []
    there = {file for folder in folders for file in _json_files(directory, folder)}
    for file in sorted(there - owned - {*RESERVED}):
        try:
            entry = read_entry(directory / file)
        except NoCaptionFile:
            strangers.append(file)
            continue
        if entry is None:
            continue
        if (image := entry["image"]) in keys:
            claims[image] = min(claims.get(image, file), file, key=_likeness(image))
        else:
            strangers.append(file)
    return claims, strangers


def _json_files(directory: Path, folder: str) -> Iterator[str]:
    with (
        suppress(OSError),  # it is not there yet, or cannot be used: the plan says so
        os.scandir(path_in(directory, f"{folder}any").parent) as entries,
    ):
        for entry in entries:
            if entry.name.endswith(".json"):
                yield folder + entry.name


def _likeness(key: str) -> Callable[[str], tuple[bool, bool, str]]:
    """Of several files that say that they are the caption of a picture, its own comes first."""
    place, picture = mirrored_folder(key), Path(key)
    short, full = f"{place}{picture.stem}.json", f"{place}{picture.name}.json"
    return lambda file: (file != short, file != full, file)
