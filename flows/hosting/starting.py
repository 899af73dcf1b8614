"""The first moments of the command: an interrupt, closed streams, a Python without the packages.

Imports nothing that is slow or has to be installed, and knows nothing of what the command does.
"""

import io
import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from types import FrameType
from typing import TextIO

INTERRUPTED = 130
CANNOT_START = 2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# what nothing goes without; that mlx-vlm is missing is for CheckModel to say
NEEDED = ("prefect", "pydantic_settings", "huggingface_hub", "PIL", "numpy")
WHAT = "." if sys.platform == "darwin" else "'.[cpu]'"  # to be installed
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 (pathlib is slow)


class Unfailing(io.TextIOWrapper):
    """A stream of the terminal. When nobody takes what is written to it any more, such as a pipe
    whose reader is gone or a terminal that was closed, all of it goes nowhere from then on."""

    def write(self, text: str) -> int:
        """Write, or pretend to."""
        try:
            return super().write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush, or pretend to."""
        try:
            super().flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def begin() -> None:
    """To be called before anything else is imported. From here on an interrupt ends the process
    without a traceback, and writing to the terminal cannot fail.

    Exits with code 2 and one sentence when this Python lacks what the product needs.
    """
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _end)
    _open_streams()
    _check_packages()


def _end(number: int, _: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"Interrupted before anything began.\n")
    os._exit(INTERRUPTED)


def _open_streams() -> None:
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _unfailing(sys.stdout, 1)
    sys.stderr = _unfailing(sys.stderr, 2)


def _unfailing(stream: TextIO | None, descriptor: int) -> Unfailing:
    binary = os.fdopen(descriptor, "wb", closefd=False) if stream is None else stream.buffer
    encoding = "utf-8" if stream is None else stream.encoding
    return Unfailing(binary, encoding, errors="backslashreplace", line_buffering=True)


def _check_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"{sys.executable} has no package {missing[0]}: use the Python of the environment that "
            f"has it, or install with `cd {ROOT} && {sys.executable} -m pip install "
            f"--constraint constraints.txt --editable {WHAT}`",
            file=sys.stderr,
        )
        raise SystemExit(CANNOT_START)
