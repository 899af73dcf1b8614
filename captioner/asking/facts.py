"""What the placeholders of a prompt stand for, of one picture.

The file is opened only for what its name does not tell. Knows nothing of prompts.
"""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path, PurePosixPath

from captioner.asking.placeholders import harmless
from captioner.errors import CaptionError
from captioner.pictures.decoding import reasons
from captioner.pictures.files import opened
from captioner.pictures.kinds import ALL
from captioner.pictures.sizes import measured
from captioner.pictures.taken import taken_on
from captioner.records import Picture

UNKNOWN = "unknown"  # what a file does not say


def facts(picture: Picture, input_dir: Path, wanted: Collection[str]) -> dict[str, str]:
    """The values of the `wanted` placeholders.

    What cannot be read is `unknown`, also all of a damaged file: validation says what is wrong
    with it.
    """
    key = PurePosixPath(picture.key)
    folder = str(key.parent) if len(key.parts) > 1 else input_dir.absolute().name
    values = {
        "name": harmless(key.name),
        "stem": harmless(key.stem),
        "folder": harmless(folder),
    }
    if "taken" in wanted:
        values["taken"] = _taken(picture)
    if {"width", "height"} & {*wanted}:
        values["width"], values["height"] = _size(picture)
    return values


def _taken(picture: Picture) -> str:
    with suppress(CaptionError), reasons():
        with opened(picture.path, picture.root) as file:
            day = taken_on(file)
        return day.isoformat() if day else UNKNOWN
    return UNKNOWN


def _size(picture: Picture) -> tuple[str, str]:
    """As a viewer shows it."""
    size = measured(picture, (ALL,))
    return (UNKNOWN, UNKNOWN) if isinstance(size, CaptionError) else (str(size[0]), str(size[1]))
