"""Files of a checkpoint, opened only when they are regular files of a size that makes sense.

A FIFO would be waited for, a device never ends, and what is read whole has to fit into memory.
Links are followed: the Hub's cache is made of them. Knows nothing of what is in a file.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from captioner.errors import CheckpointError
from captioner.text import gigabytes, printable

WEIGHTS = ".safetensors"
TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # read whole, by us or by libraries
MAX_TEXT_BYTES = 100_000_000  # the largest honest ones, tokenizers, have a third of that


def opened(path: Path) -> BinaryIO:
    """The regular file at `path`, open for reading.

    Raises:
        CheckpointError: it is something else.
        OSError: it cannot be opened.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _refusal(path, "is no regular file")
    return file


def read_text(path: Path) -> bytes:
    """All of a file that is no weights.

    Raises:
        CheckpointError: it is no regular file, or too large to be honest.
        OSError: it cannot be read.
    """
    check_file(path)
    with opened(path) as file:
        return file.read(MAX_TEXT_BYTES)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError, CheckpointError):
        value = json.loads(read_text(path))
        return value if isinstance(value, dict) else {}
    return {}


def check_files(directory: Path) -> None:
    """Refuse a directory with anything in it that a library could hang or choke on when it reads.

    Raises:
        CheckpointError: it holds something that is neither a file nor a directory, or a text that
            is too large to be honest.
        OSError: it cannot be listed.
    """
    for path in _entries(directory):
        if path.exists():  # what a link to nowhere lacks is told as missing
            check_file(path)
        if path.is_dir():  # transformers reads `additional_chat_templates`
            for inner in _entries(path):
                if inner.exists():
                    check_file(inner)


def check_file(path: Path) -> None:
    """Refuse what `check_files` refuses.

    Raises:
        CheckpointError: it is such a file.
        OSError: it is not there, or cannot be looked at.
    """
    found = path.stat()
    named_like_a_file = path.suffix in (WEIGHTS, *TEXTS)
    if not stat.S_ISREG(found.st_mode) and (named_like_a_file or not stat.S_ISDIR(found.st_mode)):
        raise _refusal(path, "is no regular file")
    if path.suffix in TEXTS and found.st_size > MAX_TEXT_BYTES:
        raise _refusal(
            path, f"has {gigabytes(found.st_size)}, which no honest file of its kind has"
        )


def _entries(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.iterdir()) if not path.name.startswith("."))


def _refusal(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{printable(str(path))} {what}: remove it, or name another checkpoint with --model "
        "or --repo-id."
    )
