"""The bytes of a download, and the Hub client's progress bars, which count them.

Knows nothing of who asks, and of what is shown of it elsewhere.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from captioner.records import Progress
from captioner.text import duration, gigabytes

ASKING = "asking the Hub for its files"


@dataclass(slots=True)
class Received:
    """The bytes of a download, counted while they come in."""

    total: int = 0  # of all files that are wanted
    present: int = 0  # of those that were there before
    received: int = 0
    broken: bool = False  # nothing more comes
    began: float = field(default_factory=time.perf_counter)

    @property
    def done(self) -> int:
        """How many are here; never more than the total, though what was sent twice counts twice."""
        return min(self.present + self.received, self.total)

    def progress(self) -> Progress:
        """For example 42.1 %, `14.0 GB of 33.3 GB` and `11.2 MB a second, 29 min to go`."""
        if not self.total:
            asking = "no file came; the log says why" if self.broken else ASKING
            return Progress(0.0, asking)
        text = f"{gigabytes(self.done)} of {gigabytes(self.total)}"
        if self.broken:
            return Progress.of(self.done, self.total, f"broke off at {text}; the log says why")
        return Progress.of(self.done, self.total, text, self._pace())

    def _pace(self) -> str:
        seconds, left = time.perf_counter() - self.began, self.total - self.done
        if not (self.received and left and seconds > 0):
            return ""
        rate = self.received / seconds
        return f"{gigabytes(rate)} a second, {duration(left / rate)} to go"

    @contextmanager
    def noting_the_end(self) -> Iterator[None]:
        """Note it when the block, in which the bytes come in, is ended by an exception."""
        try:
            yield
        except BaseException:
            self.broken = True
            raise


def counting_bar(received: Received) -> Any:
    """A class for `snapshot_download(tqdm_class=...)`: the client's own, which tells `received`.

    The client counts the bytes twice, as they arrive and as they are written; what is ahead counts.
    """
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    bars: list[Any] = []

    class CountingBar(tqdm):
        counted = 0  # tqdm's own count stands still without a terminal

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if kwargs.get("unit") == "B":  # another one counts files
                bars.append(self)
            super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self.counted += int(n or 0)
            received.received = max((bar.counted for bar in bars), default=0)
            drawn: bool | None = super().update(n)
            return drawn

    return CountingBar


def hidden_bar() -> Any:
    """A class for `snapshot_download(tqdm_class=...)` that shows nothing."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class HiddenBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]

    return HiddenBar
