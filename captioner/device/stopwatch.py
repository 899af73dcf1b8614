"""How long something was at work, and how long it rested in between. Knows nothing of what."""

import time


class Stopwatch:
    """Counts from the first `begin` to the last `end`; what comes after that counts as neither.

    One thread begins and ends; any may read.
    """

    def __init__(self) -> None:
        self._busy = 0.0
        self._idle = 0.0
        self._began: float | None = None  # at work since then
        self._ended: float | None = None  # at rest since then

    def begin(self) -> None:
        """It is at work from now on, if it was not already."""
        if self._began is None:
            now = time.perf_counter()
            self._idle += now - self._ended if self._ended is not None else 0.0
            self._began = now

    def end(self) -> None:
        """It is at rest from now on, if it was not already."""
        if self._began is not None:
            now = time.perf_counter()
            self._busy, self._began, self._ended = self._busy + now - self._began, None, now

    @property
    def busy_seconds(self) -> float:
        """Seconds at work until now."""
        began = self._began
        return self._busy + (time.perf_counter() - began if began is not None else 0.0)

    @property
    def idle_seconds(self) -> float:
        """Seconds at rest, between two times at work."""
        return self._idle
