"""provenance.jsonl: what each caption was made from. One JSON object a line, only ever appended.

A line is written before the caption file that it speaks of, so a caption file never lacks its
line, whenever the power goes. docs/provenance.md describes the format for those who read it. The
shards of a folder have files of the same kind beside it, until they are merged into it.
Knows nothing of what a run does with it.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from captioner.errors import InputError, OutputError
from captioner.output.atomic import cannot_write, json_text
from captioner.output.history import History
from captioner.output.lines import Lines
from captioner.output.made import BEFORE, VERSION, understood
from captioner.output.ours import NotOurs
from captioner.output.shards import ENDED, shard_files
from captioner.records import Caption, Generation, Picture, Recipe, Skipped, Stamp
from captioner.text import counted, printable

FILE_NAME = "provenance.jsonl"
OPENING = f'{{"version": {VERSION}, "at": "'.encode()  # of every line
PROGRAM = version("mlx-image-captioning")

IN_EVERY_LINE = {  # of the settings; others only where they are not the default
    *("user_prompt", "system_prompt", "max_tokens", "temperature", "seed"),
    *("max_pixels", "background"),
}
TOO_MUCH = (RecursionError, OverflowError)  # nested too deeply, a number such as 1e999

logger = logging.getLogger(__name__)


class Provenance:
    """The file, which any number of threads may append to, and one process at a time."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path, OPENING)
        self._strange = 0  # lines that were told of: the merge of shards only moves them

    def add_caption(self, caption: Caption, recipe: Recipe, **more: Any) -> None:
        """Append the line of a caption that is about to be saved; `recipe` is that of the run, and
        `more` goes to the end of the line.

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
            **more,
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

    def read(self) -> History:
        """What the files say last of each picture; nothing without a file. To be closed.

        Lines that cannot be understood are left out, with a warning.

        Raises:
            InputError: what is in its place is not ours.
            OutputError: it is there and cannot be read, or there is no room to sort it.
        """
        with ExitStack() as opened:
            history = opened.enter_context(History())
            self._read_into(history)
            opened.pop_all()
        return history

    def _read_into(self, history: History) -> None:
        strange, ours = Counter[Path](), False
        for path, line in self._read():
            try:
                value = json.loads(line)
                ours = ours or {"version", "image"} <= value.keys()
                if value.get("result") == ENDED:
                    continue
                made = understood(value, history.get)
                if path.name != FILE_NAME:
                    made = replace(made, by_a_shard=True)
                history.put(made)
            except (ValueError, LookupError, TypeError, AttributeError, *TOO_MUCH):
                strange[path] += 1
        if strange and not ours:
            why = "no line of it says what a caption was made from"
            raise _not_ours(next(iter(strange)), why)
        total, self._strange = self._strange, strange.total()
        for path, count in strange.items() if strange.total() != total else ():
            lines, shown = counted(count, "line"), printable(str(path))
            logger.warning("%s of %s cannot be understood: not counted", lines, shown)

    def values(self) -> Iterator[dict[str, Any]]:
        """What each line says, oldest first; what is no line of ours is left out.

        Raises:
            InputError: what is in its place is not ours.
            OutputError: it is there and cannot be read.
        """
        for _, line in self._read():
            with suppress(ValueError, RecursionError):
                if isinstance(value := json.loads(line), dict):
                    yield value

    def _read(self) -> Iterator[tuple[Path, bytes]]:
        """The lines of the folder, with the file that each is in: those of shards last."""
        directory = self._lines.path.parent
        path = whole = directory / FILE_NAME
        try:
            for path in (whole, *shard_files(directory)):
                for line in Lines(path, OPENING).read():
                    yield path, line
        except NotOurs as error:
            raise _not_ours(path, str(error.strerror)) from error
        except OSError as error:
            raise OutputError(
                f"{printable(str(path))} cannot be read ({error.strerror}), and without it "
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
            raise _not_ours(self._lines.path, str(error.strerror)) from error
        except OSError as error:
            raise cannot_write(self._lines.path, error) from error

    def __str__(self) -> str:
        return printable(str(self._lines.path))

    def _append(
        self, result: str, picture: Picture, stamp: Stamp, *, sync: bool = True, **more: Any
    ) -> None:
        self.write(
            result,
            sync=sync,
            image=picture.key,
            image_bytes=stamp.bytes,
            image_mtime_ns=stamp.mtime_ns,
            image_sha256=stamp.sha256,
            **more,
        )

    def write(self, result: str, *, sync: bool = True, **more: Any) -> None:
        """Append a line of the kind `result`, with what it says.

        Raises:
            OutputError: it cannot be written; the file is as it was.
        """
        line = {
            "version": VERSION,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "program": PROGRAM,
            "result": result,
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


def _not_ours(path: Path, why: str) -> InputError:
    return InputError(
        f"{printable(str(path))} cannot be what earlier runs wrote, since {why}: move it away, "
        "or name another directory with --output-dir."
    )


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What a line says of the settings: newer ones only where they are not what they were before
    there was such a setting."""
    return {
        name: value
        for name, value in recipe.settings().items()
        if name in IN_EVERY_LINE or value != BEFORE[name]
    }


def _more(generation: Generation) -> dict[str, Any]:
    """What only captions with more than a text have."""
    banned = list(generation.banned) or None
    more = {"fields": generation.fields, "said": generation.said or None, "banned": banned}
    return {name: value for name, value in more.items() if value is not None}
