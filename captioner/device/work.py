"""One picture on its way through the device, as seen from both sides.

Whoever asked for its caption waits here; the device says here how far it is. Knows nothing of how
a caption is made.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue

from captioner.device.rows import Request
from captioner.errors import CaptionError
from captioner.pictures.reading import Reader
from captioner.records import Generation, Stamp


class Work:
    """A picture that stands in line for its caption, or is being captioned."""

    def __init__(self, reader: Reader, request: Request) -> None:
        self.reader = reader
        self.request = request  # of this attempt
        self.attempt = 1
        self._asked = request
        self._said = 0  # the last attempt that was told of
        self._told: SimpleQueue[int | None] = SimpleQueue()
        self._begun: Future[None] = Future()
        self._result: Future[Generation] = Future()

    @property
    def stamp(self) -> Stamp:
        """The file that the picture was read from, once it was."""
        if self.reader.stamp is None:
            raise CaptionError("the picture has not been read yet")
        return self.reader.stamp

    @property
    def begun(self) -> bool:
        """Whether the device has taken it up, or cannot."""
        return self._begun.done()

    def when_begun(self, call: Callable[[], None]) -> None:
        """Call `call`, on whatever thread, as soon as it has begun."""
        self._begun.add_done_callback(lambda _: call())

    def attempts(self) -> Iterator[int]:
        """The number of each attempt, from 1, as it begins; ends when there is a result.

        Each is told once, to whoever asks first.
        """
        yield from iter(self._told.get, None)
        self._told.put(None)  # or whoever asks again would wait for ever

    def result(self) -> Generation:
        """The caption, which is waited for.

        Raises:
            CaptionError: this picture cannot be captioned; others can.
            UnreadableImage: the picture cannot be read any more.
            DeviceError: the device has stopped.
        """
        return self._result.result()

    # What follows is for the device. The first end counts: a picture may end on another thread
    # while the device stops.

    def begin(self) -> None:
        """It is on the device now, perhaps once more because its batch has failed."""
        if self._said < self.attempt:
            self._said = self.attempt
            self._told.put(self.attempt)
        self._set_begun()

    def again(self) -> bool:
        """Make the next attempt its request; False when enough were made."""
        request = self._asked.again(self.attempt)
        if request is None:
            return False
        self.attempt += 1
        self.request = request
        return True

    def finish(self, generation: Generation) -> None:
        """It has its caption."""
        with suppress(InvalidStateError):
            self._result.set_result(generation)
            self._told.put(None)

    def fail(self, error: BaseException) -> None:
        """It gets no caption."""
        with suppress(InvalidStateError):
            self._result.set_exception(error)
            self._told.put(None)
        self._set_begun()

    def when_ended(self, call: Callable[["Work"], None]) -> None:
        """Call `call` with it, on whatever thread, as soon as it has its caption or has failed."""
        self._result.add_done_callback(lambda _: call(self))

    def _set_begun(self) -> None:
        with suppress(InvalidStateError):
            self._begun.set_result(None)
