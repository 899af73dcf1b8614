"""The Hub client's progress bars, which also count what they show. Knows nothing of who asks."""

from typing import Any

from captioner.progress import Received


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
