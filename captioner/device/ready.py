"""A picture that is prepared, with the questions that wait for the device.

Knows nothing of threads, or of how a question is answered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from PIL import Image

from captioner.device.encoding import Encoded, Prepared
from captioner.device.look import Look
from captioner.device.rows import Request
from captioner.device.work import Question, Work

Prepare = Callable[[Image.Image, Sequence[Request]], list[Prepared]]


@dataclass(eq=False, slots=True)
class Ready:
    """A picture with its pixels, which a `Work` does not keep: it may live on for a while."""

    work: Work
    prepared: dict[Question, Prepared]
    waiting: list[Question]  # those that are to be begun, in their order
    look: Look | None = None  # while some of them wait
    alone: bool = False  # because the batch that it was in has failed

    @classmethod
    def of(cls, work: Work, prepare: Prepare) -> Self:
        """Take the picture's pixels, and prepare each question about it.

        Raises:
            CaptionError: the processor refuses something.
        """
        asked = [question.request for question in work.questions]
        prepared = prepare(work.take(), asked)
        return cls(work, dict(zip(work.questions, prepared, strict=True)), list(work.questions))

    def next(
        self, look: Callable[[Sequence[Prepared]], Look]
    ) -> tuple[Question, Callable[[Prepared], Encoded]]:
        """The question to begin now, and what encodes it; the picture is seen once for all those
        that wait."""
        seen = self.look or look([self.prepared[question] for question in self.waiting])
        question = self.waiting.pop(0)
        self.look = seen if self.waiting else None
        return question, seen.encode
