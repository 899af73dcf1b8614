"""Ctrl-C, SIGTERM and SIGHUP in a terminal: they end the run in good order, and in any case.

The first one raises KeyboardInterrupt in the main thread, unless there is nothing left to
interrupt. A thread that depends on nothing else sees each of them too: it ends the process at the
second Ctrl-C, and when the good order takes too long. Knows nothing of what a run does.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from flows.hosting.starting import INTERRUPTED, SIGNALS

PATIENCE_SECONDS = 9.0  # with the run; whoever asked waits ten at most
SAME_SECONDS = 0.05  # `timeout` and others send a signal twice
AT_ONCE = "Ended at once. The captions saved so far are safe."
TOO_LONG = (
    f"The run did not end within {PATIENCE_SECONDS:.0f} s of the interrupt, so it was cut off. "
    "The captions saved so far are safe."
)


class Interrupts:
    """What they do, from when it takes over to the end of the process."""

    def __init__(self, say: Callable[[str], None], ended: Callable[[], int | None]) -> None:
        """`say` tells the person a last sentence, while other threads may hang; `ended` is the
        exit code once there is nothing to interrupt any more."""
        self._say, self._ended = say, ended
        self._came = False

    def take_over(self) -> None:
        """From now on this is what they do."""
        self._signals, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._interrupt)
        threading.Thread(target=self._watch, name="interrupts", daemon=True).start()

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        if self._came or self._ended() is not None:
            return
        self._came = True
        raise KeyboardInterrupt

    def _watch(self) -> None:
        first = self._next()
        began = time.monotonic()
        threading.Thread(target=self._cut_off, name="cut-off", daemon=True).start()
        asked = first == signal.SIGINT
        while True:
            again = self._next() == signal.SIGINT
            if again and asked and time.monotonic() - began > SAME_SECONDS:
                self._leave(AT_ONCE)
            asked = asked or again

    def _next(self) -> int:
        """The next signal, which is waited for."""
        while (number := os.read(self._signals, 1)[0]) not in SIGNALS:
            pass  # others have Python handlers too, such as SIGALRM
        return number

    def _cut_off(self) -> None:
        time.sleep(PATIENCE_SECONDS)
        self._leave(TOO_LONG)

    def _leave(self, sentence: str) -> None:
        code = self._ended()
        if code is None:
            self._say(sentence)
        os._exit(INTERRUPTED if code is None else code)
