"""The one line under the log of a terminal: how far the run is, and what it waits for.

Knows nothing of how it is shown.
"""

import time

from captioner.run import Run, Watch
from flows.hosting.lost_server import PATIENCE_SECONDS

SEPARATOR = " · "
SHORTEST_NAME = 8  # columns; a name is not begun in fewer


class LiveLine:
    """What there is to say of a run at a moment, without control characters."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._waiting_for = ""
        self._since = time.monotonic()  # of what is waited for, or of the first caption's beginning
        self._done = 0
        self._ready_at = 0.0  # when all will be done, as it looked when the last picture was

    def text(self, columns: int) -> str:
        """The line; longer than `columns` by the end of a picture's name at most."""
        run = self._watch.run
        if run is None:
            seconds = self._seconds("Waiting for the Prefect server")
            said = f"{self._waiting_for}{SEPARATOR}{clock(seconds)}"
            return said if seconds >= PATIENCE_SECONDS else ""
        if not run.plan.todo or self._watch.over.is_set():
            return ""
        return self._captioning(run, columns) if run.model else self._waiting(run)

    def _waiting(self, run: Run) -> str:
        progress = run.downloading() if run.downloading else None
        seconds = self._seconds("Downloading the model" if progress else run.waiting_for)
        parts = [self._waiting_for, progress.text if progress else "", clock(seconds)]
        return SEPARATOR.join(filter(None, parts))

    def _captioning(self, run: Run, columns: int) -> str:
        parts = self._figures(run)
        while len(SEPARATOR.join(parts)) > columns and len(parts) > 2:
            del parts[-2]  # how many, and how long it takes, are wanted most
        names = [job.picture.label for job in run.on_device]
        if len(names) > 1:
            names = [f"{names[0]} and {len(names) - 1} more"]
        if columns - len(SEPARATOR.join([*parts, ""])) >= SHORTEST_NAME:
            parts += names
        return SEPARATOR.join(parts)

    def _figures(self, run: Run) -> list[str]:
        done, total, seconds = run.done, len(run.plan.todo), self._seconds("captions")
        here = run.done_here
        if not here:
            return [f"{done}/{total}"]
        now = time.monotonic()
        if done != self._done:
            self._done = done
            self._ready_at = now + (total - done) * seconds / here
        return [
            f"{done}/{total}",
            *([f"{len(run.skipped)} skipped"] if run.skipped else []),
            *([f"{60 * here / seconds:.1f}/min"] if seconds else []),
            f"{clock(max(0.0, self._ready_at - now))} left",
        ]

    def _seconds(self, waiting_for: str) -> float:
        """How long it has been waited for that."""
        if waiting_for != self._waiting_for:
            self._waiting_for, self._since = waiting_for, time.monotonic()
        return time.monotonic() - self._since


def clock(seconds: float) -> str:
    """Such as `4:10` or `1:04:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
