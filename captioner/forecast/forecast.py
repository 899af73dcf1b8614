"""What a run would do if it began now: the facts, in one place.

It looks where a run looks, in the same order, and refuses what a run refuses. Writes nothing.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from captioner.asking.in_full import in_full
from captioner.asking.prompts import Prompts
from captioner.checkpoint.find import known_revision
from captioner.errors import UnreadableImage
from captioner.forecast.model import Model, model_of
from captioner.forecast.seconds import Prediction, predicted
from captioner.forecast.tokens import Eyes
from captioner.output.folder import OutputFolder
from captioner.pictures.kinds import check_formats
from captioner.pictures.scan import check_input, scan
from captioner.pictures.sizes import sizes
from captioner.plan import Jobs, Plan, Scan
from captioner.records import Picture, Recipe, Skipped
from captioner.settings import Settings

LARGEST = 10


@dataclass(frozen=True, slots=True)
class Look:
    """What the model would see of the pictures that are to be captioned."""

    caps: tuple[int, ...]  # pixels: half of the cap, the cap, double; 0 alone for no cap
    total: tuple[int, ...]  # image tokens in all, at each of the caps
    largest: tuple[tuple[Picture, tuple[int, int], tuple[int, ...]], ...]  # with size and tokens
    is_of_the_model: bool  # or else it is what Qwen3-VL would see


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do."""

    scan: Scan
    plan: Plan
    todo: Jobs  # of the plan's, those that can be read as far as their size tells
    skipped: tuple[Skipped, ...]  # by earlier runs, and those that would be now
    failing: tuple[Skipped, ...]  # those that cannot be read now, whatever is in their files
    remarks: tuple[str, ...]  # on the prompts of folders
    model: Model | None = None  # None when there is nothing to do
    look: Look | None = None
    time: Prediction | None = None  # None when there is no history


def forecast(settings: Settings) -> Forecast:
    """What a run with these settings would do.

    Raises:
        CaptionerError: what a run would end with before its first caption.
    """
    output = OutputFolder(settings.output_dir)
    check_input(settings.input_dir)
    check_formats(settings.formats)
    output.check()
    settings = in_full(settings)
    found = scan(
        settings.input_dir,
        settings.formats,
        recursive=settings.recursive,
        output_dir=settings.output_dir,
    )
    recipe = Recipe.of(settings, known_revision(settings))
    prompts = Prompts(settings)
    plan, costs = output.preview(found, settings, recipe, prompts.of)
    remarks = tuple(prompts.remarks())
    todo = Jobs(settings.input_dir, plan.caption_files)
    skipped, failing = [*plan.skipped], list[Skipped]()
    seen = _Seen()
    asked = (job.picture for job in plan.todo)
    for job, size in zip(plan.todo, sizes(asked, settings.formats), strict=True):
        if isinstance(size, tuple):
            todo.add(job.picture.key, job.reason, job.asked)
            seen.add(job.picture, size)
        else:
            why = skipped if isinstance(size, UnreadableImage) else failing
            why.append(Skipped(job.picture, str(size), None))
    facts = found, plan, todo, tuple(skipped), tuple(failing), remarks
    if not todo:
        return Forecast(*facts)
    model = model_of(settings)
    eyes = Eyes.of(model.directory) if model.directory else None
    look, tokens = seen.by(eyes, settings.max_pixels)
    time = predicted(costs, tokens, settings.batch_size)
    return Forecast(*facts, model, look, time)


class _Seen:
    """The sizes of pictures: each once, however many pictures have it."""

    def __init__(self) -> None:
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._largest: list[tuple[Picture, tuple[int, int]]] = []

    def add(self, picture: Picture, size: tuple[int, int]) -> None:
        """One more picture of so many pixels across and down."""
        self._sizes[size] += 1
        largest = [*self._largest, (picture, size)]
        self._largest = sorted(largest, key=lambda one: -one[1][0] * one[1][1])[:LARGEST]

    def by(self, eyes: Eyes | None, cap: int) -> tuple[Look, Iterator[int]]:
        """What the model would see, and the tokens of each picture at the cap, in any order."""
        caps = (cap // 2, cap, cap * 2) if cap > 1 else (cap,)
        sight, here = eyes or Eyes(), caps.index(cap)
        tokens = {size: tuple(sight.tokens(size, c) for c in caps) for size in self._sizes}
        total = tuple(
            sum(number * tokens[size][place] for size, number in self._sizes.items())
            for place in range(len(caps))
        )
        largest = tuple((picture, size, tokens[size]) for picture, size in self._largest)
        each = (tokens[size][here] for size in self._sizes.elements())
        return Look(caps, total, largest, eyes is not None), each
