"""How long captions will take, by what earlier ones took. Knows nothing of where those are kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression
from typing import Literal

from captioner.records import Cost

ENOUGH = 8  # captions, to tell what a picture costs from what its tokens cost


@dataclass(frozen=True, slots=True)
class Prediction:
    """What captions will take."""

    seconds: float  # of all of them together
    captions: int  # how many it was learned from
    each: float  # seconds that one of those took
    batch_size: int | None  # how many of those went at a time; None when that differed


def predicted(
    costs: Sequence[Cost], tokens: Iterable[int], batch_size: int | Literal["auto"]
) -> Prediction | None:
    """What pictures of so many image tokens each will take; None without earlier captions.

    Captions in batches of the same size count alone where there are any.
    """
    chosen = [cost for cost in costs if cost.batch_size == batch_size] or costs
    if not chosen:
        return None
    seconds = [cost.seconds / cost.batch_size for cost in chosen]
    seen = [cost.image_tokens for cost in chosen]
    mean = fmean(seconds)
    slope, least = 0.0, mean
    if len(chosen) >= ENOUGH and len(set(seen)) > 1:
        line = linear_regression(seen, seconds)
        if line.slope > 0 and line.intercept >= 0:
            slope, least = line.slope, line.intercept
    sizes = {cost.batch_size for cost in chosen}
    return Prediction(
        sum(least + slope * n for n in tokens),
        len(chosen),
        mean,
        sizes.pop() if len(sizes) == 1 else None,
    )
