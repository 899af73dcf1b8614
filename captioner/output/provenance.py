"""provenance.jsonl: what each caption was made from. One JSON object a line, only ever appended.

A line is written before the caption file that it speaks of, so a caption file never lacks its
line, whenever the power goes. docs/provenance.md describes the format for those who read it.
Knows nothing of what a run does with it.
"""

import errno
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from captioner.errors import OutputError
from captioner.macos import flush_to_disk
from captioner.output.atomic import cannot_write, json_text
from captioner.output.entries import entry_digest
from captioner.records import Caption, Picture, Recipe, Skipped, Stamp
from captioner.settings import RECIPE, Settings
from captioner.text import printable

VERSION = 1
PROGRAM = version("mlx-image-captioning")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """What the file says of one picture: its caption, or why there is none."""

    image: str
    source: Stamp
    caption_file: str = ""
    entry_digest: bytes = b""  # of what the caption file was written with
    recipe: Recipe | None = None  # None when there never was a caption
    flagged: bool = False
    skipped: str = ""  # the reason; empty when it was captioned
    program: str = ""  # the version that said so


class Provenance:
    """The file, which any number of threads may append to, and one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._appending = threading.Lock()

    def add_caption(self, caption: Caption, recipe: Recipe) -> None:
        """Append the line of a caption that is about to be saved.

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
            flags=list(generation.flags),
            finish_reason=generation.finish_reason,
            attempts=generation.attempts,
            width=generation.width,
            height=generation.height,
            prompt_tokens=generation.prompt_tokens,
            image_tokens=generation.image_tokens,
            generated_tokens=generation.generated_tokens,
            seconds=round(generation.seconds, 3),
            repo_id=recipe.repo_id,
            revision=recipe.revision,
            **recipe.settings(),
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
            OutputError: it is there and cannot be read.
        """
        latest: dict[str, Made] = {}
        strange = 0
        for line in self._lines():
            try:
                made = _understood(json.loads(line), latest)
                latest[made.image] = made
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                strange += 1
        if strange:
            shown = printable(str(self._path))
            logger.warning("%d line(s) of %s cannot be understood and do not count", strange, shown)
        return latest

    def mend(self) -> None:
        """Cut off the last line when it was half written by a run that was killed.

        Raises:
            OutputError: it cannot be mended.
        """
        try:
            with self._path.open("r+b") as file:
                end = file.seek(0, os.SEEK_END)
                position, tail = end, b""
                while position and b"\n" not in tail:
                    step = min(position, 1 << 16)
                    position -= step
                    file.seek(position)
                    tail = file.read(step) + tail
                whole = position + tail.rfind(b"\n") + 1
                if whole < end:
                    file.truncate(whole)
        except FileNotFoundError:
            return
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                yield from file
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(
                f"{printable(str(self._path))} cannot be read ({error.strerror}), and without it "
                "nobody knows what is up to date: check its permissions."
            ) from error

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
        # backslashreplace: a file name that is not UTF-8 becomes the JSON escape of its bytes
        data = (json_text(line) + "\n").encode(errors="backslashreplace")
        try:
            with self._appending, self._path.open("ab", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    if file.write(data) != len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    if sync:
                        flush_to_disk(file.fileno())
                except BaseException:
                    file.truncate(end)
                    raise
        except OSError as error:
            raise cannot_write(self._path, error) from error


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
    if Path(file).name != file or not file.endswith(".json"):
        raise ValueError("a file somewhere else")
    return Made(
        image,
        source,
        file,
        entry_digest(image, line["user_prompt"], line["caption"]),
        Recipe(
            # a setting that is newer than the line had its default
            tuple(line.get(name, Settings.model_fields[name].default) for name in RECIPE),
            line["repo_id"],
            str(line["revision"]),
        ),
        bool(line["flags"]),
        program=str(line["program"]),
    )
