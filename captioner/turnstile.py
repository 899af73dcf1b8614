"""Lets threads through one at a time and in order. Knows nothing of what they do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turnstile:
    """Threads pass one at a time, in the order of their numbers from 0, however they arrive.

    A number whose thread never arrives must not stop the others: when nobody has passed for
    `patience` seconds, the lowest number that waits goes ahead.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self._patience = patience
        self._changed = threading.Condition()
        self._next = 0
        self._busy = False
        self._waiting: set[int] = set()

    @contextmanager
    def passage(self, number: int) -> Iterator[None]:
        """Wait for the turn of `number`; the block is the passage."""
        with self._changed:
            self._waiting.add(number)
            while not self._may_pass(number):
                moved = self._changed.wait(self._patience)
                if not moved and not self._busy and number == min(self._waiting):
                    break
            self._waiting.discard(number)
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._next = max(self._next, number + 1)
                self._changed.notify_all()

    def _may_pass(self, number: int) -> bool:
        return not self._busy and number <= self._next
