"""How far a run has come, as a number and a sentence. Knows nothing of where it is shown."""

from dataclasses import dataclass

from captioner.records import Outcome
from captioner.text import gigabytes


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of something that takes a while."""

    percent: float  # 0 to 100
    text: str


@dataclass(slots=True)
class Received:
    """The bytes of a download, counted while they come in."""

    total: int = 0  # of all files that are wanted
    present: int = 0  # of those that were there before
    received: int = 0

    def progress(self) -> Progress:
        """For example 42.1 % and `14.0 GB of 33.3 GB`."""
        if not self.total:
            return Progress(0.0, "asking the Hub for its files")
        done = min(self.present + self.received, self.total)
        return Progress(_percent(done, self.total), f"{gigabytes(done)} of {gigabytes(self.total)}")


def of_pictures(outcome: Outcome) -> Progress:
    """For example 38.7 % and `12 of 31: 11 captioned, 1 skipped`."""
    done = len(outcome.captioned) + len(outcome.skipped) + len(outcome.failures)
    total = len(outcome.plan.todo)
    return Progress(_percent(done, total), f"{done:,} of {total:,}: {outcome.counts()}")


def _percent(done: int, total: int) -> float:
    return round(100 * done / total, 1) if total else 0.0
