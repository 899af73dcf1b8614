"""One picture on its way through the device, as seen from both sides.

Whoever asked for its caption waits here; the device says here how far it is. Knows nothing of how
a caption is made.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue

from PIL import Image

from captioner.device.rows import Request
from captioner.records import Generation

Take = Callable[[], Image.Image]  # gives the pixels of a picture


@dataclass(eq=False, slots=True)
class Question:
    """One of the questions about a picture."""

    name: str  # of the field that it fills; empty for the caption
    asked: Request
    request: Request  # of this attempt
    attempt: int = 1
    why: str = ""  # there is more than one
    answer: Generation | None = None

    def again(self, why: str) -> bool:
        """Make the next attempt its request; False when enough were made."""
        request = self.asked.again(self.attempt)
        if request is None:
            return False
        self.attempt += 1
        self.request, self.why = request, why
        return True


class Work:
    """A picture that stands in line for its caption, or is being captioned."""

    def __init__(self, take: Take, request: Request) -> None:
        self.take = take  # called once
        self.request = request
        # the caption's first
        self.questions = [Question(name, each, each) for name, each in request.each().items()]
        self._said = 0  # the last attempt that was told of
        self._why: dict[int, str] = {}
        self._told: SimpleQueue[int | None] = SimpleQueue()
        self._begun: Future[None] = Future()
        self._result: Future[Generation] = Future()

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

    def why(self, attempt: int) -> str:
        """Why there is that attempt, which has been told: what the one before does."""
        return self._why[attempt]

    def result(self) -> Generation:
        """The caption, which is waited for.

        Raises:
            CaptionError: this picture cannot be captioned; others can.
            DeviceError: the device has stopped.
        """
        return self._result.result()

    # What follows is for the device. The first end counts: a picture may end on another thread
    # while the device stops.

    @property
    def ended(self) -> bool:
        """Whether it has its caption, or gets none."""
        return self._result.done()

    def begin(self, question: Question) -> None:
        """A question is on the device now, perhaps once more because its batch has failed."""
        if self._said < question.attempt:
            self._said = question.attempt
            self._why[question.attempt] = question.why
            self._told.put(question.attempt)
        self._set_begun()

    def answer(self, question: Question, answer: Generation) -> None:
        """A question has its answer; the last one ends the work."""
        question.answer = answer
        answers = [each.answer for each in self.questions if each.answer]
        if len(answers) == len(self.questions):
            self.finish(_together([each.name for each in self.questions], answers))

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


def _together(names: Sequence[str], answers: Sequence[Generation]) -> Generation:
    """The caption, which is the first answer, with the others as its fields."""
    caption, others = answers[0], answers[1:]
    if not others:
        return caption
    fields = {name: answer.text for name, answer in zip(names[1:], others, strict=True)}
    return replace(
        caption,
        fields=(caption.fields or {}) | fields,
        # a caption depends on --max-tokens where the limit may have cut any of its answers
        finish_reason=next((a.finish_reason for a in answers if a.finish_reason != "stop"), "stop"),
        generated_tokens=sum(answer.generated_tokens for answer in answers),
        prefill_seconds=sum(answer.prefill_seconds for answer in answers),
        decode_seconds=sum(answer.decode_seconds for answer in answers),
        flags=tuple(dict.fromkeys(flag for answer in answers for flag in answer.flags)),
        attempts=max(answer.attempts for answer in answers),
        banned=tuple(dict.fromkeys(phrase for answer in answers for phrase in answer.banned)),
    )
