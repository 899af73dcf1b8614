"""How far a run has come, as a number and a sentence. Knows nothing of where it is shown."""

from dataclasses import dataclass

from captioner.checkpoint.progress import Received
from captioner.records import Outcome
from captioner.text import gigabytes


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of something that takes a while."""

    percent: float  # 0 to 100
    text: str


def of_download(received: Received) -> Progress:
    """For example 42.1 % and `14.0 GB of 33.3 GB`."""
    if not received.total:
        return Progress(0.0, "asking the Hub for its files")
    text = f"{gigabytes(received.done)} of {gigabytes(received.total)}"
    return Progress(_percent(received.done, received.total), text)


def of_pictures(outcome: Outcome) -> Progress:
    """For example 38.7 % and `12 of 31: 11 captioned, 1 skipped`."""
    done = len(outcome.captioned) + len(outcome.skipped) + len(outcome.failures)
    total = len(outcome.plan.todo)
    return Progress(_percent(done, total), f"{done:,} of {total:,}: {outcome.counts()}")


def _percent(done: int, total: int) -> float:
    return round(100 * done / total, 1) if total else 0.0
