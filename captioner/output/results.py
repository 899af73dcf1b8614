"""What a finished output folder holds: every caption with the figures it was made with.

Read from the caption files, which are the truth, and from the last line of each in the provenance.
All of it is untrusted: whoever can write to the folder can say anything there.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from captioner.output.entries import NoCaptionFile, digest_of, read_entry
from captioner.output.made import digest_of_line
from captioner.output.mirror import is_inside, path_in
from captioner.output.ours import NotOurs
from captioner.output.provenance import FILE_NAME, Provenance
from captioner.pictures.names import RESERVED
from captioner.pictures.scan import natural_key
from captioner.pictures.tree import Tree
from captioner.records import Stamp


@dataclass(frozen=True, slots=True)
class Figures:
    """What the provenance says of how one caption was made; None where it does not say."""

    digest: bytes  # of what the caption file was written with
    file: str  # the caption file's path within the output directory
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
    source: Stamp | None = None  # the picture's file as it was then, or when it was last seen
    banned: tuple[str, ...] = ()  # phrases that it holds, and was not to hold


NO_FIGURES = Figures(b"", "", (), None, None, None, None, None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Result:
    """One caption file."""

    key: str  # the picture's path within the input directory
    file: Path  # the caption file's path within the output directory
    prompt: str
    caption: str
    digest: bytes  # of what the caption file says
    figures: Figures
    fields: dict[str, Any] = field(default_factory=dict)  # answers by their names

    @property
    def alt_text(self) -> str:
        """The text for those who do not see the picture; empty where none was asked for."""
        alt_text = self.fields.get("alt_text")
        return " ".join(alt_text.split()) if isinstance(alt_text, str) else ""

    @property
    def keywords(self) -> tuple[str, ...]:
        """Its keywords, each once; they may be a list, or a text with commas."""
        said = self.fields.get("keywords")
        parts = said.split(",") if isinstance(said, str) else said
        words = [word for word in parts if isinstance(word, str)] if isinstance(parts, list) else []
        return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))

    @property
    def edited(self) -> bool:
        """Whether a person wrote it, or changed it."""
        return self.digest != self.figures.digest

    @property
    def flags(self) -> tuple[str, ...]:
        """What is wrong with the caption; nothing with one that a person wrote."""
        return () if self.edited else self.figures.flags


def results(directory: Path) -> list[Result]:
    """The captions of an output directory, in natural order of their pictures.

    Raises:
        OutputError: its provenance cannot be read.
    """
    return _results(directory, _figures(directory))


def results_and_unreadable(directory: Path) -> tuple[list[Result], dict[str, str]]:
    """The same, and by each caption file that an earlier run wrote and that cannot be read any
    more, the reason. One that is not there any more is none of these.

    Raises:
        OutputError: as of `results`, or the disk fails.
    """
    figures = _figures(directory)
    found = _results(directory, figures)
    there = {result.key for result in found}
    left = (made.file for key, made in figures.items() if key not in there)
    files = sorted(filter(is_inside, left), key=natural_key)
    reasons = {file: _why_unreadable(directory, file) for file in files}
    return found, {file: why for file, why in reasons.items() if why}


def _why_unreadable(directory: Path, file: str) -> str:
    """Why a caption file is none; empty when it is one, or not there."""
    try:
        read_entry(path_in(directory, file))
    except NoCaptionFile as error:
        return str(error)
    except (NotOurs, PermissionError) as error:
        return error.strerror or "it may not be read"
    return ""


def _results(directory: Path, figures: Mapping[str, Figures]) -> list[Result]:
    found: dict[str, Result] = {}
    for file in _json_files(directory):
        entry = _entry(directory / file)
        if entry and is_inside(key := entry["image"]):
            made = figures.get(key, NO_FIGURES)
            if key in found and file != made.file:  # a copy of a file says the same
                continue
            fields = entry.get("fields")
            found[key] = Result(
                key,
                Path(file),
                entry["prompt"],
                entry["caption"],
                digest_of(entry),
                made,
                fields if isinstance(fields, dict) else {},
            )
    return sorted(found.values(), key=lambda result: natural_key(result.key))


def picture_in(directory: Path, key: str) -> Path | None:
    """The picture of a key; None when it is not in the input directory (any more)."""
    try:
        path = (directory / key).resolve(strict=True)
        inside = path.is_relative_to(directory.resolve())
        return path if inside and path.is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _json_files(directory: Path) -> list[str]:
    """The paths within the directory of what may be caption files, through no link."""
    files: set[str] = set()
    with suppress(OSError):  # a directory that cannot be listed holds no captions
        for folder, entry in Tree(directory).entries():
            if entry.name.endswith(".json") and not entry.name.startswith("."):
                files.add(folder + entry.name)
    return sorted(files - {*RESERVED}, key=lambda file: (file.count("/"), file))


def _entry(path: Path) -> dict[str, Any] | None:
    try:
        return read_entry(path)
    except NoCaptionFile:
        return None


def _figures(directory: Path) -> dict[str, Figures]:
    latest: dict[str, Figures] = {}
    for made in Provenance(directory / FILE_NAME).values():
        with suppress(ValueError, LookupError, TypeError, OverflowError):  # the next run says so
            image = str(made["image"])
            if made["result"] == "captioned":
                latest[image] = _understood(made)
            elif made["result"] == "touched":
                latest[image] = replace(latest[image], source=_source(made))
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
        digest_of_line(made),
        str(made["caption_file"]),
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
        _source(made),
        tuple(map(str, made.get("banned") or ())),
    )


def _source(made: dict[str, Any]) -> Stamp:
    size, modified = int(made["image_bytes"]), int(made["image_mtime_ns"])
    return Stamp(size, modified, str(made["image_sha256"]))
