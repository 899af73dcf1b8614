"""What the shards of a folder tell one another and the merge, in their provenance files.

A line of a shard says of its caption what only a summary wants to know as well, and its last line
how the run went; the merge leaves both out. A *round* lasts from the split of a folder into shards
to their merge. All of it is untrusted, as whatever lies in the output folder. Knows nothing of how
a shard comes to a machine.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from captioner.macos import flush_to_disk
from captioner.output.atomic import json_text, write_json
from captioner.output.lines import MAX_LINE, Lines
from captioner.output.ours import opened, read_ours
from captioner.output.provenance import FILE_NAME, OPENING, Provenance
from captioner.output.shards import ENDED, ROUND, lease_files, shard_files
from captioner.records import Caption, DeviceFigures, Generation, Recipe, Stamp
from captioner.run import Run

FOR_THE_MERGE = ("again", "prefill_seconds")  # of a caption's line
MAX_BYTES = 1 << 20
STRANGE = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class Round:
    """What the shards of a folder are parts of."""

    id: str
    shards: int  # how many parts there are
    settings: dict[str, Any]  # that all of them are captioned with, without those of a machine


@dataclass(frozen=True, slots=True)
class Made:
    """A caption of a shard."""

    image: str
    again: str | None
    generation: Generation  # without its text
    stamp: Stamp
    repo_id: str | None
    revision: str


@dataclass(frozen=True, slots=True)
class NotMade:
    """A picture to which a shard gave no caption."""

    image: str
    reason: str
    skipped: bool  # because of what is in its file; if not, it failed
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run of a shard went."""

    failed: list[NotMade]
    skipped: list[NotMade]
    batch_size: int | None  # None when it loaded no model
    weight_bytes: int
    load_seconds: float
    device: DeviceFigures


ENDING = TypeAdapter(Ended)
ROUNDS = TypeAdapter(Round)


class ShardProvenance(Provenance):
    """The provenance file of one run of a shard."""

    def add_caption(self, caption: Caption, recipe: Recipe, **more: Any) -> None:
        """Append the line of a caption that is about to be saved."""
        prefill = round(caption.generation.prefill_seconds, 3)
        super().add_caption(
            caption, recipe, **more, again=caption.job.reason, prefill_seconds=prefill
        )

    def end(self, run: Run) -> None:
        """Append how the run went.

        Raises:
            OutputError: it cannot be written.
        """
        model = run.model
        ended = Ended(
            [NotMade(f.job.picture.key, f.reason, False) for f in run.failures],
            [NotMade(s.picture.key, s.reason, True, s.stamp) for s in run.skipped],
            model.batch_size if model else None,
            model.checkpoint.weight_bytes if model else 0,
            model.seconds if model else 0.0,
            run.device,
        )
        self.write(ENDED, **asdict(ended))


class Told:
    """What the shards of a folder have said so far; `news` reads on where it left off."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[str, int] = {}  # how many bytes of each file

    def news(self) -> Iterator[Made | NotMade | Ended]:
        """What was said since it was asked last. What makes no sense is left out.

        Raises:
            OSError: the folder cannot be read.
        """
        for path in shard_files(self._directory):
            for line in self._new_lines(path):
                with suppress(*STRANGE):
                    yield from _understood(json.loads(line))

    def _new_lines(self, path: Path) -> Iterator[bytes]:
        with (
            suppress(FileNotFoundError),
            opened(path, os.O_RDONLY) as descriptor,
            os.fdopen(descriptor, "rb", closefd=False) as file,
        ):
            file.seek(self._read.get(path.name, 0))
            # one without an end is being written
            while (line := file.readline(MAX_LINE)).endswith(b"\n"):
                self._read[path.name] = file.tell()
                yield line


def begun(directory: Path) -> Round | None:
    """The round that the folder is in; None when it is in none.

    Raises:
        OSError: it cannot be read.
    """
    with suppress(FileNotFoundError, ValidationError):
        return ROUNDS.validate_json(read_ours(directory / ROUND, MAX_BYTES))
    return None


def begin(directory: Path, shards: int, settings: dict[str, Any]) -> Round:
    """Begin a round, in the place of one that was given up.

    Raises:
        OSError: the folder cannot be written to.
    """
    made = Round(secrets.token_hex(8), shards, settings)
    write_json(directory / ROUND, asdict(made))
    return made


def merge(directory: Path) -> bool:
    """Move all lines of shards to the folder's own provenance, as a single run writes them, and end
    the round; whether there were any. Whoever calls it holds the folder by itself.

    Raises:
        OSError: something cannot be read or written; it can be called again.
    """
    files = shard_files(directory)
    for path in files:
        with (
            opened(directory / FILE_NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT) as descriptor,
            os.fdopen(descriptor, "ab", closefd=False) as file,
        ):
            file.writelines(map(_merged, Lines(path, OPENING).read()))
            file.flush()
            flush_to_disk(descriptor)
        path.unlink(missing_ok=True)
    for path, _ in lease_files(directory):
        path.unlink(missing_ok=True)
    (directory / ROUND).unlink(missing_ok=True)
    return bool(files)


def _merged(line: bytes) -> bytes:
    """The line as a single run would have written it; nothing of how a run of a shard ended."""
    with suppress(*STRANGE):
        value = json.loads(line)
        if value.get("result") == ENDED:
            return b""
        if value["result"] == "captioned":
            kept = {key: each for key, each in value.items() if key not in FOR_THE_MERGE}
            return (json_text(kept) + "\n").encode(errors="backslashreplace")
    return line if line.endswith(b"\n") else line + b"\n"


def _understood(line: dict[str, Any]) -> Iterator[Made | NotMade | Ended]:
    """What a line of a shard tells.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is none.
    """
    if line["result"] == ENDED:
        yield ENDING.validate_python(line)
    if line["result"] not in ("captioned", "skipped"):
        return
    image = str(line["image"])
    stamp = Stamp(int(line["image_bytes"]), int(line["image_mtime_ns"]), str(line["image_sha256"]))
    if line["result"] == "skipped":
        yield NotMade(image, str(line["reason"]), True, stamp)
        return
    prefill = float(line["prefill_seconds"])
    generation = Generation(
        "",
        str(line["finish_reason"]),
        int(line["prompt_tokens"]),
        int(line["image_tokens"]),
        int(line["width"]),
        int(line["height"]),
        int(line["generated_tokens"]),
        prefill,
        float(line["seconds"]) - prefill,
        tuple(map(str, line["flags"])),
        int(line["batch_size"]),
        int(line["attempts"]),
    )
    again = None if line["again"] is None else str(line["again"])
    repo_id = None if line["repo_id"] is None else str(line["repo_id"])
    yield Made(image, again, generation, stamp, repo_id, str(line["revision"]))
