"""Which caption file each picture has: the one that it had, or one that is nobody else's.

Knows nothing of what has to be captioned.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from captioner.output.entries import NoCaptionFile, read_entry
from captioner.output.mirror import path_in
from captioner.pictures.names import (
    MAX_PATH_BYTES,
    RESERVED,
    caption_file_names,
    folded,
    mirrored_folder,
    usual_caption_file,
)


class CaptionFiles:
    """The caption file of each picture, by its key. Of most it follows from the key, so only the
    others take memory."""

    def __init__(self, longest: int) -> None:
        """`longest` is how many bytes a path within the output directory may have."""
        self.longest = longest
        self.unusual: dict[str, str] = {}  # those that do not follow from their keys

    def __getitem__(self, key: str) -> str:
        return self.unusual.get(key) or usual_caption_file(key, self.longest)

    def __setitem__(self, key: str, file: str) -> None:
        if file == usual_caption_file(key, self.longest):
            self.unusual.pop(key, None)
        else:
            self.unusual[key] = file


def caption_files(
    keys: Collection[str], owned: Iterable[tuple[str, str]], directory: Path
) -> tuple[CaptionFiles, dict[str, str]]:
    """The caption files of the pictures of these keys: those that they had, or ones that are nobody
    else's. Then those that other pictures had, by their keys.

    `owned` says which caption file each picture had, here or not. A file in the output directory
    that says of itself that it is the caption of a picture is that, also without provenance. Every
    other one is somebody else's.
    """
    # a `/` and the end
    files = CaptionFiles(MAX_PATH_BYTES - len(os.fsencode(directory.absolute())) - 2)
    new, others = set(keys), dict[str, str]()
    for key, file in owned:
        if key in new:
            new.remove(key)
            files[key] = file
        else:
            others[key] = file
    if new:
        _name(new, keys, files, others.values(), directory)
    return files, others


def _name(
    new: set[str],
    keys: Iterable[str],
    files: CaptionFiles,
    others: Collection[str],
    directory: Path,
) -> None:
    """Give files to the `new` pictures among `keys`, folder by folder, since names can only be the
    same within one. `others` are files of pictures that are not among them."""
    together: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        together[folded(mirrored_folder(key, files.longest))].append(key)
    owned = _by_folder([*others, *files.unusual.values()])
    claims: dict[str, str] = {}
    strangers: dict[str, list[str]] = defaultdict(list)
    for folder in {"", *(mirrored_folder(key, files.longest) for key in new)}:
        place = folded(folder)
        usual = {files[key] for key in together[place] if key not in new}
        unowned = {*_json_files(directory, folder)} - usual - {*owned[place]} - {*RESERVED}
        strangers[place] += _unclaimed(unowned, directory, new, claims)
    for key, file in claims.items():
        new.remove(key)
        files[key] = file
    owned = _by_folder([*others, *files.unusual.values()])
    for place, here in together.items():
        if not new.isdisjoint(here):
            _name_in_one_folder(new, here, files, owned[place], strangers[place])


def _by_folder(files: Iterable[str]) -> dict[str, list[str]]:
    """The files, by what a file system may take for one folder."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in files:
        found[folded(file[: file.rfind("/") + 1])].append(file)
    return found


def _name_in_one_folder(
    new: set[str], keys: list[str], files: CaptionFiles, owned: list[str], strangers: list[str]
) -> None:
    """The same for those of the keys whose files go into one folder, where pictures have other
    files than their usual ones, `owned`, and somebody else has the `strangers`."""
    # as if all were new: a run that goes on where another one stopped gives the same names, and
    # so do runs of shards, of which each sees the others' captions or not
    names = dict(zip(keys, caption_file_names(keys, strangers, files.longest), strict=True))
    taken = {folded(file) for file in (*owned, *(files[key] for key in keys if key not in new))}
    unnamed = [key for key in keys if key in new and folded(names[key]) in taken]
    named = new.intersection(keys).difference(unnamed)
    for key in named:
        files[key] = names[key]
    if unnamed:
        taken = {*owned, *strangers, *(files[key] for key in {*keys}.difference(unnamed))}
        others = caption_file_names(unnamed, taken, files.longest)
        for key, name in zip(unnamed, others, strict=True):
            files[key] = name


def _unclaimed(
    files: Iterable[str], directory: Path, new: set[str], claims: dict[str, str]
) -> Iterator[str]:
    """Those of the files that are no captions of `new` pictures; adds to `claims` which are."""
    for file in files:
        try:
            entry = read_entry(directory / file)
        except NoCaptionFile:
            yield file
            continue
        if entry is None:
            continue
        if (image := entry["image"]) in new:  # also in another folder than its own
            claims[image] = min(claims.get(image, file), file, key=_likeness(image))
        else:
            yield file


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
