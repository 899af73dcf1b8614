"""JSON files that are either whole or not there. Knows nothing of what they mean."""

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from captioner.errors import OutputError
from captioner.macos import flush_to_disk, why_refused
from captioner.text import printable

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")

# What JSON leaves as it is and a terminal acts upon: C1 controls, line separators, and the
# embeddings, overrides and isolates that turn the direction of what follows.
TERMINAL_CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as JSON, readable but for what a terminal would act upon."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return TERMINAL_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, UTF-8, atomically.

    Raises:
        OSError: the disk is full or the directory cannot be written to; `path` is as it was.
    """
    with _replacing(path) as file:
        file.write(json_text(value, indent=2) + "\n")


def write_json_list(path: Path, values: Iterable[Any]) -> int:
    """Write a JSON array, one value at a time so that memory does not grow with it; their number.

    Raises:
        OSError: the disk is full or the directory cannot be written to; `path` is as it was.
    """
    count = 0
    with _replacing(path) as file:
        file.write("[")
        for count, value in enumerate(values, start=1):
            file.write(",\n" if count > 1 else "\n")
            file.write("\n".join("  " + line for line in json_text(value, indent=2).split("\n")))
        file.write("\n]\n" if count else "]\n")
    return count


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file of any kind atomically; without `sync` a power failure may leave it empty.

    Raises:
        OSError: the disk is full or the directory cannot be written to; `path` is as it was.
    """
    with _replacing(path, sync=sync) as file:
        file.buffer.write(data)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """What to raise when `path` could not be written."""
    return OutputError(
        f"{printable(str(path))} cannot be written: {why_refused(error)}. "
        "The captions saved so far are safe; mend that and run again."
    )


def remove_temporary_files(directory: Path) -> None:
    """Remove what a run that was killed left half written; nobody else may be writing there."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A name for a file that is not there, and that is removed when a run that is killed leaves
    it."""
    return path.parent / f".{uuid.uuid4().hex}.tmp"  # TEMPORARY knows it


@contextmanager
def _replacing(path: Path, *, sync: bool = True) -> Iterator[TextIO]:
    """A temporary file beside `path` that becomes `path` when the block ends well."""
    temporary = temporary_beside(path)
    try:
        # backslashreplace: a file name that is not UTF-8 becomes the JSON escape of its bytes
        with temporary.open("x", encoding="utf-8", errors="backslashreplace") as file:
            yield cast(TextIO, file)
            file.flush()
            if sync:
                flush_to_disk(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong is said, not what went wrong besides
            temporary.unlink(missing_ok=True)
        raise
