"""Where exported files go, and which of those that are there may be replaced.

A file is replaced when an earlier export wrote it and it still is what was written: the ledger
`exports.jsonl` in the output folder says so. Whatever else is there belongs to somebody, and is
left and counted. Knows nothing of what the files mean.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import OutputError
from captioner.output.atomic import cannot_write, write_bytes
from captioner.output.lines import Lines
from captioner.output.ours import read_ours
from captioner.output.results import Result, picture_in
from captioner.pictures.scan import FOLDER_PROMPT
from captioner.text import counted, listed, printable

LEDGER, OPENING = "exports.jsonl", b'{"file": "'  # of every line
MAX_BYTES = 1 << 30  # of a file that an export may replace


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of an export."""

    input_dir: Path  # where the pictures are
    beside: bool = False  # files go beside the pictures rather than beside the caption files
    xmp_name: str = "darktable"  # `a.jpg.xmp`; "adobe": `a.xmp`
    thumbnails: bool = False  # in the Parquet file


class Place:
    """The folders of one export; a plain class, used by one thread."""

    def __init__(self, output_dir: Path, options: Options) -> None:
        self.options = options
        self.written = 0  # files that were made or replaced
        self.unchanged = 0  # files that say already what they should
        self.not_ours: list[str] = []  # files that were left, since somebody else made them
        self.of_another: list[str] = []  # files that another caption of this export has already
        self.prompts: list[str] = []  # files that the next run would take for prompts
        self._output = output_dir
        self._roots = (output_dir.resolve(), options.input_dir.resolve())
        self._ledger_file = Lines(output_dir / LEDGER, OPENING)
        self._ledger = _read(self._ledger_file)
        self._used: set[str] = set()

    @property
    def home(self) -> Path:
        """The folder of files that hold many captions: where they are read from."""
        return self.options.input_dir if self.options.beside else self._output

    def picture(self, result: Result) -> Path | None:
        """The picture of a caption; None when it is not in the input folder (any more)."""
        return picture_in(self.options.input_dir, result.key)

    def beside(self, result: Result, suffix: str, *, whole_name: bool = False) -> Path | None:
        """The path of a file that belongs to one caption: `a.txt` for `a.jpg`, or, with the whole
        name, `a.jpg.txt`; None when there is no picture to put it beside."""
        key = Path(result.key)
        if not self.options.beside:
            name = result.file.stem
            if whole_name:
                # two folders may be one, whatever the letter case: then the names have hashes
                hashed = "/" in result.key and name not in (key.stem, key.name)
                name = f"{name}{key.suffix}" if hashed else key.name
            return self._output / result.file.parent / f"{name}{suffix}"
        if self.picture(result) is None:
            return None
        name = key.name if whole_name else key.stem
        return self.options.input_dir / key.parent / f"{name}{suffix}"

    def write(self, path: Path, data: bytes, *, merged: bool = False) -> None:
        """Write a file whole or not at all; one that is somebody else's is left, and noted.

        `merged` says that `data` keeps all that was in the file, so that it may be anybody's.

        Raises:
            OutputError: it cannot be written.
        """
        if self._asks(path):
            self.prompts.append(str(path))
            return
        shown, digest = str(path), hashlib.sha256(data).hexdigest()
        try:
            before = self.read(path)
            if before == data:
                self.unchanged += shown not in self._used
                self._used.add(shown)
                return
            if shown in self._used:
                self.of_another.append(shown)
                return
            theirs = before is not None and not merged and not self._wrote(path, before)
            if theirs or not self._is_inside(path):
                self.not_ours.append(shown)
                return
            self._note(path, digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
        except OSError as error:
            raise cannot_write(path, error) from error
        self._used.add(shown)
        self.written += 1

    def read(self, path: Path) -> bytes | None:
        """What is in a file: None without one.

        Raises:
            OSError: it cannot be read, is no regular file, or is far too large to be one of these.
        """
        try:
            return read_ours(path, MAX_BYTES)
        except FileNotFoundError:
            return None

    def say(self) -> Iterable[str]:
        """What became of the files, in sentences."""
        if self.not_ours:
            count = len(self.not_ours)
            yield (
                f"{count} file{'s' * (count > 1)} left as {'they are' if count > 1 else 'it is'}, "
                f"since no export of this folder wrote {'them' if count > 1 else 'it'}: "
                f"{listed(map(printable, self.not_ours))}; move them away to have them written."
            )
        if self.of_another:
            names = listed(map(printable, self.of_another))
            yield (
                f"{counted(len(self.of_another), 'caption')} not written, since the file has that "
                f"of another picture of the same stem: {names}; other names for the pictures help."
            )
        if self.prompts:
            names = listed(map(printable, self.prompts))
            yield (
                f"{counted(len(self.prompts), 'caption')} not written, since the next run would "
                f"take it for the prompt of its folder: {names}; give the picture another name."
            )

    def _asks(self, path: Path) -> bool:
        """Whether a run would read what the model is asked from there, whatever the letter case."""
        among_pictures = self.options.beside or self._roots[0] == self._roots[1]
        return among_pictures and path.name.casefold() == FOLDER_PROMPT

    def _is_inside(self, path: Path) -> bool:
        """Whether no link on the way leads out of the two folders."""
        parent = path.parent.resolve()
        return any(parent.is_relative_to(root) for root in self._roots)

    def _wrote(self, path: Path, data: bytes) -> bool:
        return self._ledger.get(str(path.resolve())) == hashlib.sha256(data).hexdigest()

    def _note(self, path: Path, digest: str) -> None:
        """Say in the ledger what is about to be written; before it is, so that it is ours."""
        name = str(path.resolve())
        self._ledger[name] = digest
        self._ledger_file.append(json.dumps({"file": name, "sha256": digest}), sync=False)


def _read(ledger: Lines) -> dict[str, str]:
    """By each file that an export has written: the SHA-256 of what was written."""
    wrote: dict[str, str] = {}
    try:
        for line in ledger.read():
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                entry = json.loads(line)
                wrote[str(entry["file"])] = str(entry["sha256"])
    except OSError as error:
        raise OutputError(
            f"{printable(str(ledger.path))} cannot be what earlier exports wrote "
            f"({error.strerror or error}); move it away and export again."
        ) from error
    return wrote
