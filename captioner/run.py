"""One run: what it was asked, what it has to do, and what became of each picture.

The flow owns it and is the only one that writes to it; whoever hosts the flow sees it through
`watched`. Knows nothing of how any of it is done or shown.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

from captioner.errors import CaptionerError
from captioner.plan import Plan, Scan
from captioner.records import (
    Caption,
    Checkpoint,
    DeviceFigures,
    Failure,
    Job,
    LoadedModel,
    Progress,
    Recipe,
    Skipped,
)
from captioner.settings import Settings
from captioner.text import duration, printable


class Run:
    """The one record of a run. A plain class: Prefect passes it on as it is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.scan: Scan | None = None
        self.plan = Plan()
        self.model: LoadedModel | None = None  # None while there was no need for one
        self.device = DeviceFigures()
        self.captioned: list[Caption] = []  # without their texts, so that it stays small
        self.skipped: list[Skipped] = []
        self.failures: list[Failure] = []
        self.downloading: Callable[[], Progress] | None = None  # how far, while the model comes
        self.waiting_for = "Loading the model"  # what comes before the first caption
        self.on_device: tuple[Job, ...] = ()  # what is being captioned
        self.interrupted = False
        self.complete = False  # all is done, and its last file is written
        self.error: CaptionerError | None = None  # what ended it before its time
        self.unexpected: Exception | None = None  # the same, and a mistake of ours
        self._done_before = self._captioned_before = 0  # by others, before captioning began
        self._began = self._loaded = self._ended = time.perf_counter()
        self._watch = _watching.get()

    @classmethod
    def begin(cls, settings: Settings) -> Self:
        """A run that begins now; those who watch see it from now on."""
        run = cls(settings)
        if run._watch:
            run._watch.run = run
            run._watch.begun.set()
        return run

    def close(self) -> None:
        """Note that nothing more happens in it; those who watch are told."""
        if self._watch:
            self._watch.over.set()

    def load(self, checkpoint: Checkpoint, batch_size: int, seconds: float) -> None:
        """Note that the model is loaded, in so many seconds: captioning begins. What others have
        done by then, as a fleet that goes on finds it, says nothing of how fast that is."""
        self.model = LoadedModel(checkpoint, batch_size, seconds)
        self._done_before, self._captioned_before = self.done, len(self.captioned)
        self._loaded = self._ended = time.perf_counter()

    def end(self, device: DeviceFigures) -> None:
        """Note that captioning has ended, and what the device did."""
        self.device = device
        self._ended = time.perf_counter()

    def add(self, caption: Caption) -> None:
        """Note a caption that was saved."""
        self.captioned.append(caption.without_text())

    @property
    def recipe(self) -> Recipe:
        """What its captions are made with."""
        return Recipe.of(self.settings, self.model.checkpoint.revision if self.model else None)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began

    @property
    def captioning_seconds(self) -> float:
        """From the moment the model was loaded to the last caption."""
        return self._ended - self._loaded

    @property
    def all_skipped(self) -> list[Skipped]:
        """The pictures that cannot be captioned, whether this run or an earlier one found out."""
        return [*self.plan.skipped, *self.skipped]

    @property
    def flagged(self) -> int:
        """How many of the captions that it made are flagged."""
        return sum(1 for caption in self.captioned if caption.generation.flags)

    @property
    def progress(self) -> Progress:
        """For example 38.7 %, `12 of 31: 11 captioned, 1 skipped` and `14.0 a minute`."""
        done, total = self.done, len(self.plan.todo)
        text = f"{done:,} of {total:,}: {self.counts()}"
        return Progress.of(done, total, text, self._pace(total - done))

    def _pace(self, left: int) -> str:
        """For example `14.0 a minute, 2 min to go`; empty before the first picture."""
        done = self.done_here
        working = self._ended == self._loaded
        seconds = (time.perf_counter() if working else self._ended) - self._loaded
        if not done or seconds <= 0:
            return ""
        rate = f"{60 * done / seconds:,.1f} a minute"
        return f"{rate}, {duration(left * seconds / done)} to go" if working and left else rate

    @property
    def done(self) -> int:
        """How many of the pictures that were to be done have been."""
        return len(self.captioned) + len(self.skipped) + len(self.failures)

    @property
    def done_here(self) -> int:
        """How many of them since captioning began."""
        return self.done - self._done_before

    @property
    def a_minute(self) -> float:
        """How many captions it made a minute; 0 when there is no saying."""
        seconds = self.captioning_seconds
        return 60 * (len(self.captioned) - self._captioned_before) / seconds if seconds else 0.0

    def counts(self) -> str:
        """For example `7 captioned, 20 up to date, 1 skipped`; `Nothing new: ...` without work."""
        plan = self.plan
        parts = [f"{len(self.captioned)} captioned"] if plan.todo else []
        if flagged := self.flagged:
            parts[0] += f" ({flagged} flagged)"
        if plan.up_to_date:
            edited = len(set(plan.edited).intersection(plan.up_to_date))
            note = f" ({edited} edited by hand)" if edited else ""
            parts.append(f"{len(plan.up_to_date)} up to date{note}")
        if plan.left:
            parts.append(f"{len(plan.left)} left as they are")
        if plan.later:
            parts.append(f"{len(plan.later)} left for the next run")
        if skipped := len(self.all_skipped):
            parts.append(f"{skipped} skipped")
        if plan.unreadable:
            parts.append(f"{len(plan.unreadable)} with an unreadable caption file")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        nothing = [] if plan.todo else ["Nothing new"]
        return ": ".join(nothing + ([", ".join(parts)] if parts else []))

    def verdict(self) -> str:
        """The sentence that a run ends with."""
        if self.error:
            return str(self.error)
        if self.interrupted:
            so_far = self.counts() if self.captioned else "before the first caption"
            left = len(self.plan.todo) - self.done
            return f"Interrupted: {so_far}" + (f", {left} to go" if left else "")
        if self.scan and not self.scan.pictures:
            where = printable(str(self.settings.input_dir))
            nothing = f"No {self.settings.format_names} files in {where}"
            return "; ".join(filter(None, (nothing, self.scan.deeper)))
        return self.counts()


class Watch:
    """What `watched` gives."""

    def __init__(self) -> None:
        self.run: Run | None = None  # as soon as there is one
        self.begun = threading.Event()  # set then
        self.over = threading.Event()  # set when nothing more happens in it


_watching: ContextVar[Watch | None] = ContextVar("_watching", default=None)


@contextmanager
def watched() -> Iterator[Watch]:
    """See the run that begins while the block runs, whatever becomes of the flow around it."""
    watch = Watch()
    token = _watching.set(watch)
    try:
        yield watch
    finally:
        _watching.reset(token)
