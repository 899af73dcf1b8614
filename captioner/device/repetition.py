"""Notices while a caption is generated that it is stuck: the same tokens again and again.

Works on token ids alone; knows nothing of MLX, of tokenizers or of text.

Tables, rows of zeros, rules and code repeat too, and then go on or stop; a loop never does. What
tells them apart is how much was repeated. A loop must cover more tokens when its period says
little: a row `| 0 | 0 | 0 |` is made of four different tokens, a sentence of nearly as many as it
has. The figures were chosen by measuring: `python -m benchmarks.repetition --choose`. Rows that
count are no loop here, since nothing tells `Row 1: 0`, `Row 2: 0` from a table that says so.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

# How far back it looks. Sixty tokens are a long sentence; paragraphs loop as well.
LONGEST_PERIOD = 128


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much repetition is enough to call a text stuck."""

    tokens: int  # covered, when no token comes twice in the period; more by as much as they do
    tokens_at_most: int  # however little the period says
    repeats: int  # times round at least, which asks more tokens of long periods


# Of the 1,790 files of Python 3.11's standard library one would be called stuck, and only read
# letter by letter: a test with an encoded picture that is a loop. 160 tokens would be wrong of four
# files, 80 of eighteen. 1,024 tokens are 34 rows of seven cells of zeros; a reader who meets more
# of the same takes it for a loop too.
STUCK = Evidence(tokens=240, tokens_at_most=1_024, repeats=4)
# A text that a limit has cut has not stopped by itself, so less is enough, and has to be: with
# the default limit of 512 tokens a loop has little room.
STUCK_WHEN_CUT = Evidence(tokens=120, tokens_at_most=256, repeats=3)


@dataclass(frozen=True, slots=True)
class Loop:
    """A repetition that the generated tokens end in."""

    start: int  # index of the first token of the first time round, from 0
    period: int  # how many tokens come again and again
    tokens: int  # how many it has covered so far, the first time round included

    @property
    def kept(self) -> int:
        """How many of the generated tokens to keep: up to the end of the first time round.

        What is said once is no repetition, and is often the last thing that was true. The loop is
        found as early as it can have begun, so the cut may be within a sentence.
        """
        return self.start + self.period


class LoopDetector:
    """Takes the tokens of one caption, one by one, and says when they are stuck.

    Some microseconds a token and some kilobytes in all, however long the caption becomes: it
    remembers the last 128 tokens, and where each of them was.
    """

    def __init__(self) -> None:
        self._recent: deque[int] = deque()  # the newest last
        self._places: dict[int, list[int]] = {}  # recent token → where it was, the newest last
        self._runs: dict[int, int] = {}  # period → how many tokens up to now equal the one before
        self._count = 0

    def add(self, token: int) -> Loop | None:
        """Take the next token; the loop that the tokens are stuck in, if they are."""
        runs, here = self._runs, self._count
        places = self._places.setdefault(token, [])
        self._runs = {here - place: runs.get(here - place, 0) + 1 for place in reversed(places)}
        places.append(here)
        self._recent.append(token)
        if len(self._recent) > LONGEST_PERIOD:
            oldest = self._recent.popleft()
            self._places[oldest].pop(0)
            if not self._places[oldest]:
                del self._places[oldest]
        self._count += 1
        return self._loop(STUCK)

    def cut(self) -> Loop | None:
        """The loop that a limit has cut, if it cut one; ask when the limit ended the caption."""
        return self._loop(STUCK_WHEN_CUT)

    def _loop(self, enough: Evidence) -> Loop | None:
        for period, run in self._runs.items():  # the shortest first
            tokens = run + period
            if tokens < enough.tokens or tokens < enough.repeats * period:
                continue
            different = len(set(islice(reversed(self._recent), period)))
            if tokens >= min(enough.tokens_at_most, enough.tokens * period / different):
                return Loop(self._count - tokens, period, tokens)
        return None


def find_loop(tokens: Iterable[int], cut: bool = False) -> Loop | None:
    """The loop that `tokens` get stuck in; with `cut`, also one that their end has cut."""
    detector = LoopDetector()
    for token in tokens:
        if loop := detector.add(token):
            return loop
    return detector.cut() if cut else None
