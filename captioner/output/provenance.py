"""provenance.jsonl: what each caption was made from. One JSON object a line, only ever appended.

A line is written before the caption file that it speaks of, so a caption file never lacks its
line, whenever the power goes. docs/provenance.md describes the format for those who read it.
Knows nothing of what a run does with it.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from captioner.errors import InputError, OutputError
from captioner.output.atomic import cannot_write, json_text
from captioner.output.entries import digest_of
from captioner.output.lines import Lines
from captioner.output.mirror import is_inside
from captioner.output.ours import NotOurs
from captioner.pictures.names import RESERVED
from captioner.records import Caption, Cost, Generation, Picture, Recipe, Skipped, Stamp
from captioner.settings import RECIPE, Settings
from captioner.text import counted, printable

FILE_NAME = "provenance.jsonl"
VERSION = 1
OPENING = f'{{"version": {VERSION}, "at": "'.encode()  # of every line
PROGRAM = version("mlx-image-captioning")

IN_EVERY_LINE = {  # of the settings; others only where they are not the default
    *("user_prompt", "system_prompt", "max_tokens", "temperature", "seed"),
    *("max_pixels", "background"),
}
TOO_MUCH = (RecursionError, OverflowError)  # nested too deeply, a number such as 1e999

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """What the file says of one picture: its caption, or why there is none."""

    image: str
    source: Stamp
    caption_file: str = ""
    entry_digest: bytes = b""  # of what the caption file was written with
    earlier: frozenset[bytes] = frozenset()  # the same of the captions that it had before
    at: float = 0.0  # when the line of the caption was written, in seconds since 1970
    recipe: Recipe | None = None  # None when there never was a caption
    flagged: bool = False
    skipped: str = ""  # the reason; empty when it was captioned
    program: str = ""  # the version that said so
    cost: Cost | None = None  # of its caption; None when the line does not tell


class Provenance:
    """The file, which any number of threads may append to, and one process at a time."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path, OPENING)

    def add_caption(self, caption: Caption, recipe: Recipe) -> None:
        """Append the line of a caption that is about to be saved; `recipe` is that of the run.

        Raises:
            OutputError: it cannot be written; the file is as it was.
        """
        generation = caption.generation
        self._append(
            "captioned",
            caption.job.picture,
            caption.stamp,
            caption_file=caption.job.caption_file,
            caption=generation.text,
            **_more(generation),
            flags=list(generation.flags),
            finish_reason=generation.finish_reason,
            attempts=generation.attempts,
            width=generation.width,
            height=generation.height,
            prompt_tokens=generation.prompt_tokens,
            image_tokens=generation.image_tokens,
            generated_tokens=generation.generated_tokens,
            seconds=round(generation.seconds, 3),
            batch_size=generation.batch_size,
            repo_id=recipe.repo_id,
            revision=recipe.revision,
            **_settings(recipe.asking(replace(caption.job.asked, user_prompt=caption.prompt))),
        )

    def add_skipped(self, skipped: Skipped) -> None:
        """Append the line of a picture that cannot be captioned as long as its file is what it is.

        Raises:
            OutputError: it cannot be written; the file is as it was.
        """
        if skipped.stamp is not None:
            self._append("skipped", skipped.picture, skipped.stamp, reason=skipped.reason)

    def add_touched(self, picture: Picture, stamp: Stamp) -> None:
        """Append that a file was modified, but holds the same bytes.

        Raises:
            OutputError: it cannot be written; the file is as it was.
        """
        # no fsync: when the line is lost, the bytes are read once more
        self._append("touched", picture, stamp, sync=False)

    def read(self) -> dict[str, Made]:
        """What the file says last of each picture, by the picture's key; empty without a file.

        Lines that cannot be understood are left out, with a warning.

        Raises:
            InputError: what is in its place is not ours.
            OutputError: it is there and cannot be read.
        """
        latest: dict[str, Made] = {}
        strange, ours = 0, False
        for line in self._read():
            try:
                value = json.loads(line)
                ours = ours or {"version", "image"} <= value.keys()
                made = _understood(value, latest)
                latest[made.image] = made
            except (ValueError, LookupError, TypeError, AttributeError, *TOO_MUCH):
                strange += 1
        if strange and not ours:
            raise self._not_ours("no line of it says what a caption was made from")
        if strange:
            lines = counted(strange, "line")
            logger.warning("%s of %s cannot be understood: not counted", lines, self)
        return latest

    def values(self) -> Iterator[dict[str, Any]]:
        """What each line says, oldest first; what is no line of ours is left out.

        Raises:
            InputError: what is in its place is not ours.
            OutputError: it is there and cannot be read.
        """
        for line in self._read():
            with suppress(ValueError, RecursionError):
                if isinstance(value := json.loads(line), dict):
                    yield value

    def _read(self) -> Iterator[bytes]:
        try:
            yield from self._lines.read()
        except NotOurs as error:
            raise self._not_ours(str(error.strerror)) from error
        except OSError as error:
            raise OutputError(
                f"{self} cannot be read ({error.strerror}), and without it "
                "nobody knows what is up to date: check its permissions."
            ) from error

    def mend(self) -> None:
        """Cut off the last line when it was half written by a run that was killed.

        Raises:
            InputError: what is in its place is not ours.
            OutputError: it cannot be mended.
        """
        try:
            self._lines.mend()
        except NotOurs as error:
            raise self._not_ours(str(error.strerror)) from error
        except OSError as error:
            raise cannot_write(self._lines.path, error) from error

    def __str__(self) -> str:
        return printable(str(self._lines.path))

    def _not_ours(self, why: str) -> InputError:
        return InputError(
            f"{self} cannot be what earlier runs wrote, since {why}: move it away, "
            "or name another directory with --output-dir."
        )

    def _append(
        self, result: str, picture: Picture, stamp: Stamp, *, sync: bool = True, **more: Any
    ) -> None:
        line = {
            "version": VERSION,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "program": PROGRAM,
            "result": result,
            "image": picture.key,
            "image_bytes": stamp.bytes,
            "image_mtime_ns": stamp.mtime_ns,
            "image_sha256": stamp.sha256,
            **more,
        }
        try:
            self._lines.append(json_text(line), sync=sync)
        except OSError as error:
            raise cannot_write(self._lines.path, error) from error


class OnlyRead(Provenance):
    """The file, for somebody who may not write to it."""

    def add_touched(self, picture: Picture, stamp: Stamp) -> None:
        """Nothing: the bytes are read once more by whoever comes next."""


def digest_of_line(line: Mapping[str, Any]) -> bytes:
    """A hash of what a caption file says that was written with the line.

    Raises:
        KeyError: it is no line of a caption.
    """
    entry = {"image": line["image"], "prompt": line["user_prompt"], "caption": line["caption"]}
    return digest_of(entry | {"fields": line.get("fields")})


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What a line says of the settings: newer ones only where they are not what they were before
    there was such a setting."""
    return {
        name: value
        for name, value in recipe.settings().items()
        if name in IN_EVERY_LINE or value != Settings.model_fields[name].default
    }


def _more(generation: Generation) -> dict[str, Any]:
    """What only captions with more than a text have."""
    more = {"fields": generation.fields, "said": generation.said or None}
    return {name: value for name, value in more.items() if value is not None}


def _hashable(value: object) -> object:
    """The value of a setting as settings have it: JSON knows no tuples."""
    return tuple(value) if isinstance(value, list) else value


def _understood(line: dict[str, Any], latest: dict[str, Made]) -> Made:
    if line["version"] != VERSION:
        raise ValueError("another version of the format")
    image, result = str(line["image"]), line["result"]
    source = Stamp(int(line["image_bytes"]), int(line["image_mtime_ns"]), str(line["image_sha256"]))
    if result == "touched":
        return replace(latest[image], source=source)
    if result == "skipped":
        before = latest.get(image, Made(image, source))  # its caption may still be there
        return replace(
            before, source=source, skipped=str(line["reason"]), program=str(line["program"])
        )
    if result != "captioned":
        raise ValueError("another kind of line")
    file = str(line["caption_file"])
    if not _is_caption_file(file):
        raise ValueError("a file somewhere else")
    before = latest.get(image, Made(image, source))
    return Made(
        image,
        source,
        file,
        digest_of_line(line),
        before.earlier | {before.entry_digest} if before.entry_digest else before.earlier,
        datetime.fromisoformat(line["at"]).timestamp(),
        Recipe(
            # a setting that is newer than the line had its default
            tuple(
                _hashable(line.get(name, Settings.model_fields[name].default)) for name in RECIPE
            ),
            line["repo_id"],
            str(line["revision"]),
            line.get("finish_reason") == "stop",
        ),
        bool(line["flags"]),
        program=str(line["program"]),
        cost=_cost(line),
    )


def _is_caption_file(name: str) -> bool:
    return is_inside(name) and name.endswith(".json") and name.casefold() not in RESERVED


def _cost(line: dict[str, Any]) -> Cost | None:
    """What the caption of the line cost; None when that makes no sense. Nothing depends on it."""
    figures = [line.get("image_tokens"), line.get("seconds"), line.get("batch_size", 1)]
    numbers = [n for n in figures if isinstance(n, (int, float)) and 0 <= n < 1e9]
    if len(numbers) < len(figures) or numbers[2] < 1:
        return None
    return Cost(int(numbers[0]), float(numbers[1]), int(numbers[2]))
