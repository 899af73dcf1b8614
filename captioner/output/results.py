"""What a finished output folder holds: every caption with the figures it was made with.

Read from the caption files, which are the truth, and from the last line of each in the provenance.
All of it is untrusted: whoever can write to the folder can say anything there.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from captioner.output.entries import NoCaptionFile, entry_digest, read_entry
from captioner.output.provenance import Provenance
from captioner.pictures.scan import natural_key

PROVENANCE, RESERVED = "provenance.jsonl", {"captions.json", "summary.json"}


@dataclass(frozen=True, slots=True)
class Figures:
    """What the provenance says of how one caption was made; None where it does not say."""

    digest: bytes  # of what the caption file was written with
    flags: tuple[str, ...]
    width: int | None  # pixels of the picture as the model saw it
    height: int | None
    image_tokens: int | None
    generated_tokens: int | None
    seconds: float | None  # on the device
    repo_id: str | None
    revision: str | None
    sha256: str | None  # of the picture's bytes
    at: str | None  # when it was made, ISO 8601


NO_FIGURES = Figures(b"", (), None, None, None, None, None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Result:
    """One caption file."""

    key: str  # the picture's path within the input directory
    file: Path  # the caption file's path within the output directory
    prompt: str
    caption: str
    figures: Figures
    edited: bool  # a person wrote it, or changed it

    @property
    def flags(self) -> tuple[str, ...]:
        """What is wrong with the caption; nothing with one that a person wrote."""
        return () if self.edited else self.figures.flags


def results(directory: Path) -> Iterator[Result]:
    """The captions of an output directory, in natural order of their pictures.

    Raises:
        OutputError: its provenance cannot be read.
    """
    figures = _figures(directory)
    found: dict[str, Path] = {}
    for path in directory.rglob("*.json"):
        file = path.relative_to(directory)
        if path.name in RESERVED or any(part.startswith(".") for part in file.parts):
            continue
        entry = _entry(path)
        if entry and (key := _key(entry)) is not None and key not in found:
            found[key] = file
    for key in sorted(found, key=natural_key):
        entry = _entry(directory / found[key]) or {}
        if _key(entry) == key:  # it may have gone by now
            prompt, caption = str(entry["prompt"]), str(entry["caption"])
            made = figures.get(key, NO_FIGURES)
            edited = made.digest != entry_digest(entry["image"], entry["prompt"], entry["caption"])
            yield Result(key, found[key], prompt, caption, made, edited)


def _entry(path: Path) -> dict[str, Any] | None:
    try:
        return read_entry(path)
    except NoCaptionFile:
        return None


def _key(entry: dict[str, Any]) -> str | None:
    """The picture that the entry is of; None when it is no caption, or leads out of the folder."""
    key = entry.get("image")
    if not isinstance(key, str) or not {"prompt", "caption"} <= entry.keys():
        return None
    path = PurePosixPath(key)
    if not path.name or path.is_absolute() or ".." in path.parts or re.search(r"[\0\\]", key):
        return None
    return key


def _figures(directory: Path) -> dict[str, Figures]:
    latest: dict[str, Figures] = {}
    for made in Provenance(directory / PROVENANCE).values():
        with suppress(ValueError, LookupError, TypeError, OverflowError):  # the next run says so
            if made["result"] == "captioned":
                latest[str(made["image"])] = _understood(made)
    return latest


def _understood(made: dict[str, Any]) -> Figures:
    def number(name: str) -> Any:
        value = made.get(name)
        return value if isinstance(value, int | float) and abs(value) < 1e15 else None

    def whole(name: str) -> int | None:
        return None if (value := number(name)) is None else int(value)

    def text(name: str) -> str | None:
        return None if made.get(name) is None else str(made[name])

    return Figures(
        entry_digest(made["image"], made["user_prompt"], made["caption"]),
        tuple(map(str, made["flags"])),
        whole("width"),
        whole("height"),
        whole("image_tokens"),
        whole("generated_tokens"),
        number("seconds"),
        text("repo_id"),
        text("revision"),
        text("image_sha256"),
        text("at"),
    )
