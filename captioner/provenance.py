"""provenance.jsonl: what each caption was made from. One JSON object a line, only ever appended.

A line is written before the caption file that it speaks of, so a caption file never lacks its
line, whenever the power goes. docs/provenance.md describes the format for those who read it.
Knows nothing of what a run does with it.
"""

import errno
import hashlib
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
from captioner.records import Caption, Checkpoint, Picture, Skipped, Stamp
from captioner.settings import Settings
from captioner.text import printable
from captioner.writing import cannot_write, json_text

FILE = "provenance.jsonl"
VERSION = 1
PROGRAM = version("mlx-image-captioning")

# the settings that a caption depends on: what they are called in a reason to caption again
RECIPE = {
    "user_prompt": "user prompt",
    "system_prompt": "system prompt",
    "max_pixels": "pixel cap",
    "background": "background",
    "max_tokens": "token limit",
    "temperature": "temperature",
    "seed": "seed",
}

logger = logging.getLogger(__name__)
_appending = threading.Lock()


@dataclass(frozen=True, slots=True)
class Made:
    """What the file says of one picture: its caption, or why there is none."""

    image: str
    source: Stamp
    caption_file: str = ""
    entry_digest: bytes = b""  # of what the caption file was written with
    recipe: tuple[Any, ...] = ()  # the values of the settings in RECIPE
    repo_id: str | None = None
    revision: str = ""
    flagged: bool = False
    skipped: str = ""  # the reason; empty when it was captioned
    program: str = ""  # the version that said so


def recipe_of(settings: Settings) -> tuple[Any, ...]:
    """The values of the settings in `RECIPE`."""
    return tuple(getattr(settings, name) for name in RECIPE)


def entry_digest(image: str, prompt: str, caption: str) -> bytes:
    """A hash of what a caption file says, whatever its layout."""
    text = json.dumps([image, prompt, caption])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def record_caption(
    caption: Caption, settings: Settings, checkpoint: Checkpoint, directory: Path
) -> None:
    """Append the line of a caption that is about to be saved.

    Raises:
        OutputError: it cannot be written; the file is as it was.
    """
    generation = caption.generation
    _append(
        directory,
        "captioned",
        caption.picture.name,
        caption.source,
        caption_file=caption.picture.caption_file,
        caption=generation.text,
        flags=list(generation.flags),
        finish_reason=generation.finish_reason,
        attempts=caption.attempts,
        width=generation.width,
        height=generation.height,
        prompt_tokens=generation.prompt_tokens,
        image_tokens=generation.image_tokens,
        generated_tokens=generation.generated_tokens,
        seconds=round(generation.prefill_seconds + generation.decode_seconds, 3),
        repo_id=checkpoint.repo_id,
        revision=checkpoint.revision,
        **dict(zip(RECIPE, recipe_of(settings), strict=True)),
    )


def record_skipped(skipped: Skipped, directory: Path) -> None:
    """Append the line of a picture that cannot be captioned as long as its file is what it is.

    Raises:
        OutputError: it cannot be written; the file is as it was.
    """
    picture = skipped.picture
    if picture.source is not None:
        _append(directory, "skipped", picture.name, picture.source, reason=skipped.reason)


def record_touched(picture: Picture, source: Stamp, directory: Path) -> None:
    """Append that a file was modified, but holds the same bytes.

    Raises:
        OutputError: it cannot be written; the file is as it was.
    """
    # no fsync: when the line is lost, the bytes are read once more
    _append(directory, "touched", picture.name, source, sync=False)


def read_provenance(directory: Path) -> dict[str, Made]:
    """What the file says last of each picture, by the picture's name; empty without a file.

    Lines that cannot be understood are left out, with a warning.

    Raises:
        OutputError: it is there and cannot be read.
    """
    latest: dict[str, Made] = {}
    strange = 0
    for line in _lines(directory / FILE):
        try:
            made = _understood(json.loads(line), latest)
            latest[made.image] = made
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            strange += 1
    if strange:
        shown = printable(str(directory / FILE))
        logger.warning("%d line(s) of %s cannot be understood and do not count", strange, shown)
    return latest


def mend(directory: Path) -> None:
    """Cut off the last line when it was half written by a run that was killed.

    Raises:
        OutputError: it cannot be mended.
    """
    path = directory / FILE
    try:
        with path.open("r+b") as file:
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
        raise cannot_write(path, error) from error


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(
            f"{printable(str(path))} cannot be read ({error.strerror}), and without it nobody "
            "knows what is up to date: check its permissions."
        ) from error


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
        # a setting that is newer than the line had its default
        tuple(line.get(name, Settings.model_fields[name].default) for name in RECIPE),
        line["repo_id"],
        str(line["revision"]),
        bool(line["flags"]),
        program=str(line["program"]),
    )


def _append(
    directory: Path, result: str, image: str, source: Stamp, *, sync: bool = True, **more: Any
) -> None:
    line = {
        "version": VERSION,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "program": PROGRAM,
        "result": result,
        "image": image,
        "image_bytes": source.bytes,
        "image_mtime_ns": source.mtime_ns,
        "image_sha256": source.sha256,
        **more,
    }
    # backslashreplace: a file name that is not UTF-8 becomes the JSON escape of its bytes
    data = (json_text(line) + "\n").encode(errors="backslashreplace")
    path = directory / FILE
    try:
        with _appending, path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if sync:
                    os.fsync(file.fileno())
            except BaseException:
                file.truncate(end)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error
