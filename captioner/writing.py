"""JSON files that are either whole or not there. Knows nothing of what they mean."""

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# What JSON leaves as it is and a terminal acts upon: C1 controls, line separators, and the
# embeddings, overrides and isolates that turn the direction of what follows.
TERMINAL_CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, UTF-8, atomically.

    Raises:
        OSError: the disk is full or the directory cannot be written to; `path` is as it was.
    """
    with _replacing(path) as file:
        file.write(_text(value) + "\n")


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
            file.write("\n".join("  " + line for line in _text(value).split("\n")))
        file.write("\n]\n" if count else "]\n")
    return count


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return TERMINAL_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A temporary file beside `path` that becomes `path` when the block ends well."""
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        # backslashreplace: a file name that is not UTF-8 becomes the JSON escape of its bytes
        with temporary.open("x", encoding="utf-8", errors="backslashreplace") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
