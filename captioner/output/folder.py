"""The output directory of a run: locked, read, saved to and finished through one object.

Nobody else joins a path to it. Knows nothing of Prefect, of MLX, or of how captions are made.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from captioner.errors import InputError, OutputError
from captioner.output.atomic import (
    cannot_write,
    write_bytes,
    write_json,
    write_json_list,
)
from captioner.output.entries import NoCaptionFile, entry_of, read_entry
from captioner.output.lease import Lease, held
from captioner.output.lock import Lock, locked
from captioner.output.mirror import path_in, tidy
from captioner.output.ours import NotOurs, read_ours
from captioner.output.planning import IMAGE_CHANGED, Ask, Planner
from captioner.output.provenance import FILE_NAME, OnlyRead, Provenance
from captioner.output.results import Result, results
from captioner.output.rounds import ShardProvenance, merge
from captioner.output.shards import new_shard_file
from captioner.output.summary import summary
from captioner.output.thumbnails import Thumbnails
from captioner.pictures.scan import natural_key
from captioner.plan import Plan, Scan, Shard
from captioner.records import Caption, Cost, Recipe, Skipped
from captioner.run import Run
from captioner.settings import Settings
from captioner.text import printable

PROVENANCE, CAPTIONS, SUMMARY = FILE_NAME, "captions.json", "summary.json"
MAX_PAGE_BYTES = 1_000_000  # of a page that is ours; the gallery's has a hundredth of that


class OutputFolder:
    """One output directory; a `with` keeps other runs out of it, but for those of other shards.

    A plain class with a lock in it: Prefect passes it from task to task as it is.
    """

    def __init__(self, directory: Path, shard: str | None = None) -> None:
        """For a run of the whole folder, or of the shard of that name."""
        self._directory = directory
        self._shard = Shard.named(shard)
        self._provenance = (
            ShardProvenance(new_shard_file(directory, self._shard))
            if self._shard
            else Provenance(directory / PROVENANCE)
        )
        self.thumbnails = Thumbnails(directory)
        self._held = ExitStack()
        self._lock: Lock | None = None  # while nobody holds it
        self._lease: Lease | None = None  # the same, of a shard

    def __enter__(self) -> Self:
        """Make the directory, and hold it.

        Raises:
            InputError: another run holds it, or it cannot be written to.
        """
        with ExitStack() as entered:
            lock = entered.enter_context(locked(self._directory, shared=bool(self._shard)))
            if self._shard:
                self._lease = entered.enter_context(held(self._directory, self._shard))
            self._lock, self._held = lock, entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def __str__(self) -> str:
        return printable(str(self._directory))

    def check(self) -> None:
        """Check that the directory can be written to, or made; makes nothing yet.

        Raises:
            InputError: it cannot.
        """
        there = self._directory.absolute()
        while not os.path.lexists(there):
            there = there.parent
        if not there.is_dir():
            kind = "a file" if os.path.exists(there) else "a link to nowhere"  # noqa: PTH110 (no errors)
            raise InputError(
                f"Output directory {self} cannot be made, since {printable(str(there))} "
                f"is {kind}; name a directory with --output-dir."
            )
        if not os.access(there, os.W_OK | os.X_OK):
            raise InputError(
                f"Output directory {self} cannot be written to; check its permissions "
                "or name another with --output-dir."
            )

    def plan(self, scan: Scan, settings: Settings, recipe: Recipe, ask: Ask) -> Plan:
        """What of the pictures is to be done, by what earlier runs left here; what shards left is
        merged first.

        Raises:
            InputError: something else is in the place of its provenance, or what `ask` is to say
                about a picture cannot be asked.
            OutputError: the directory can be neither read nor written.
        """
        about = self._directory, self._provenance, settings, recipe, ask
        try:
            with ExitStack() as opened:
                planner = opened.enter_context(Planner(*about))
                if not self._shard:
                    tidy(self._directory, planner.folders())
                    self._provenance.mend()  # now that it is known to be ours
                    if merge(self._directory):
                        planner = opened.enter_context(Planner(*about))
                return planner.plan(scan.pictures)
        except OSError as error:
            raise OutputError(
                f"Output directory {self} cannot be read ({error.strerror or error}): "
                "check its permissions, and the disk that it is on."
            ) from error

    def preview(
        self, scan: Scan, settings: Settings, recipe: Recipe, ask: Ask
    ) -> tuple[Plan, list[Cost]]:
        """The plan of a run that would begin now, and what captions of the same model cost here
        when there is something to do.

        Writes nothing, makes nothing and holds nothing: a run may be writing meanwhile.

        Raises:
            InputError: as `plan` does.
            OutputError: the provenance cannot be read.
        """
        provenance = OnlyRead(self._directory / PROVENANCE)
        with Planner(self._directory, provenance, settings, recipe, ask) as planner:
            plan = planner.plan(scan.pictures)
            return plan, planner.costs() if plan.todo else []

    def save(self, caption: Caption, recipe: Recipe) -> str:
        """Note what the caption was made from, then write its file; returns the file's name.

        Raises:
            OutputError: one of the two cannot be written, and a file of an earlier run is as it
                was; or the directory is another one now.
        """
        self._check_lock()
        self._provenance.add_caption(caption, recipe)
        path = self._directory / caption.job.caption_file
        try:
            path_in(self._directory, caption.job.caption_file, make=True)
            write_json(path, entry_of(caption))
        except OSError as error:
            raise cannot_write(path, error) from error
        if caption.thumbnail is not None:
            self.thumbnails.add(caption.stamp, caption.thumbnail)
        return caption.job.caption_file

    def skip(self, skipped: Skipped) -> None:
        """Note that a picture cannot be captioned as long as its file is what it is.

        Raises:
            OutputError: it cannot be noted, or the directory is another one now.
        """
        self._check_lock()
        self._provenance.add_skipped(skipped)

    def finish(self, run: Run) -> list[str]:
        """Write captions.json from the caption files, in scan order, then summary.json, last of
        all. Captions of pictures that are there, and that this run did not look for, are kept. A
        shard only notes how it went, for the merge.

        Returns the keys of the pictures whose caption file is left out, since it is the caption
        of another picture that was there before.

        Raises:
            OutputError: one of them cannot be written, or the directory is another one now.
        """
        self._check_lock()
        if isinstance(self._provenance, ShardProvenance):
            self._provenance.end(run)
            return []
        changed = {s.picture.key for s in run.all_skipped}
        changed |= {job.picture.key for job in run.plan.todo if job.reason == IMAGE_CHANGED}
        changed -= {caption.job.picture.key for caption in run.captioned}
        keys = [picture.key for picture in run.plan.pictures]
        if run.plan.unasked:
            keys += [earlier.image for earlier in run.plan.unasked]
            keys.sort(key=natural_key)
        old = [key for key in keys if key in changed]
        rest = (key for key in keys if key not in changed)
        path = self._directory / CAPTIONS
        try:
            left_out = [entry["image"] for entry in self.entries(old, run.plan)]
            write_json_list(path, self.entries(rest, run.plan))
            path = self._directory / SUMMARY
            write_json(path, summary(run))
        except OSError as error:
            raise cannot_write(path, error) from error
        return left_out

    def write(self, name: str, text: str) -> None:
        """Write a file that is made from the captions, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._directory / name
        try:
            data = text.encode("utf-8", "backslashreplace")
            write_bytes(path_in(self._directory, name, make=True), data)
        except OSError as error:
            raise cannot_write(path, error) from error

    def is_free(self, name: str, mark: bytes) -> bool:
        """Whether a file may be written: nothing is in its place, or one of ours, which holds the
        mark."""
        try:
            return mark in read_ours(self._directory / name, MAX_PAGE_BYTES)
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def results(self) -> list[Result]:
        """Every caption file in it, with the figures that its caption was made with.

        Raises:
            OutputError: the provenance cannot be read.
        """
        return results(self._directory)

    def entries(self, keys: Iterable[str], plan: Plan) -> Iterator[dict[str, Any]]:
        """The caption files of pictures that are there and are theirs, in the order of the keys."""
        for key in keys:
            entry = None
            with suppress(NoCaptionFile, NotOurs, PermissionError):  # the plan has said so
                entry = read_entry(path_in(self._directory, plan.caption_files[key]))
            if entry is not None and entry["image"] == key:
                yield entry

    def _check_lock(self) -> None:
        if self._lock:
            self._lock.check()
        if self._lease:
            self._lease.check()
