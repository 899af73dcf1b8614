"""What a run would do if it began now: the facts, in one place.

It looks where a run looks, in the same order, and refuses what a run refuses. Writes nothing.
"""

from dataclasses import dataclass

from captioner.asking.in_full import in_full
from captioner.asking.prompts import Prompts
from captioner.checkpoint.find import known_revision
from captioner.errors import CaptionError, UnreadableImage
from captioner.forecast.model import Model, model_of
from captioner.forecast.seconds import Prediction, predicted
from captioner.forecast.tokens import Eyes
from captioner.output.folder import OutputFolder
from captioner.pictures.kinds import check_formats
from captioner.pictures.scan import check_input, scan
from captioner.pictures.sizes import sizes
from captioner.plan import Plan, Scan
from captioner.records import Job, Picture, Recipe, Skipped
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
    todo: tuple[Job, ...]  # of the plan's, those that can be read as far as their size tells
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
    asked = [job.picture for job in plan.todo]
    measured = list(zip(plan.todo, sizes(asked, settings.formats), strict=True))
    readable = [(job, size) for job, size in measured if isinstance(size, tuple)]
    refused = [
        (Skipped(job.picture, str(why), None), isinstance(why, UnreadableImage))
        for job, why in measured
        if isinstance(why, CaptionError)
    ]
    skipped = (*plan.skipped, *(one for one, is_of_the_file in refused if is_of_the_file))
    failing = tuple(one for one, is_of_the_file in refused if not is_of_the_file)
    todo = tuple(job for job, _ in readable)
    if not todo:
        return Forecast(found, plan, todo, skipped, failing, remarks)
    model = model_of(settings)
    eyes = Eyes.of(model.directory) if model.directory else None
    look, tokens = _look([(job.picture, size) for job, size in readable], settings, eyes)
    time = predicted(costs, tokens, settings.batch_size)
    return Forecast(found, plan, todo, skipped, failing, remarks, model, look, time)


def _look(
    pictures: list[tuple[Picture, tuple[int, int]]], settings: Settings, eyes: Eyes | None
) -> tuple[Look, list[int]]:
    """What the model would see, and the tokens of each picture at the cap that was asked for."""
    cap = settings.max_pixels
    caps = (cap // 2, cap, cap * 2) if cap > 1 else (cap,)
    sight = eyes or Eyes()
    seen = [
        (picture, size, tuple(sight.tokens(size, c) for c in caps)) for picture, size in pictures
    ]
    here = caps.index(cap)
    largest = sorted(seen, key=lambda one: -one[1][0] * one[1][1])[:LARGEST]
    total = tuple(sum(tokens) for tokens in zip(*(tokens for _, _, tokens in seen), strict=True))
    return Look(caps, total, tuple(largest), eyes is not None), [t[here] for _, _, t in seen]
