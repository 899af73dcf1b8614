"""ProcessImage: every picture through ValidateImage, GenerateCaption and SaveJSON.

Work goes through in a window of two chunks: while the device captions one chunk, the next is
validated and queued. So the device starts at once and never waits, and memory does not grow with
the folder. Knows the order of the three states, and nothing of what they do.
"""

from itertools import count

from prefect import unmapped
from prefect.futures import PrefectFuture

from captioner.errors import CaptionError
from captioner.records import Caption, Failure, LoadedModel, Outcome, Picture, Skipped
from captioner.settings import Settings
from tasks.generate_caption import generate_caption
from tasks.save_caption import save_caption
from tasks.validate_image import validate_image

CHUNK_SIZE = 8
MAX_WORKERS = 4 * CHUNK_SIZE  # a thread for every task run that two chunks can have at a time

Chunk = list[tuple[Picture, PrefectFuture[Caption]]]


def process_images(pictures: list[Picture], model: LoadedModel, settings: Settings) -> Outcome:
    """Caption all of `pictures`; what is wrong with one of them is in the outcome.

    Raises:
        OutputError: a caption cannot be saved.
        DeviceError: the device has stopped.
    """
    outcome = Outcome(pictures)
    turns = count()
    captioning: Chunk = []
    for start in range(0, len(pictures), CHUNK_SIZE):
        valid = _validated(pictures[start : start + CHUNK_SIZE], outcome)
        captions = generate_caption.map(
            valid, [next(turns) for _ in valid], unmapped(model), unmapped(settings)
        )
        _save(captioning, settings, outcome)
        captioning = list(zip(valid, captions, strict=True))
    _save(captioning, settings, outcome)
    return outcome


def _validated(pictures: list[Picture], outcome: Outcome) -> list[Picture]:
    checked = [future.result() for future in validate_image.map(pictures)]
    outcome.skipped += [result for result in checked if isinstance(result, Skipped)]
    return [result for result in checked if isinstance(result, Picture)]


def _save(captioning: Chunk, settings: Settings, outcome: Outcome) -> None:
    """Save each caption as soon as the device has made it."""
    saving: list[PrefectFuture[None]] = []
    for picture, future in captioning:
        result = future.result(raise_on_failure=False)
        if isinstance(result, CaptionError):
            outcome.failures.append(Failure(picture, str(result)))
        elif isinstance(result, BaseException):
            raise result
        else:
            saving.append(save_caption.submit(result, settings))
            outcome.captioned += 1
            outcome.totals.add(result.generation)
    for saved in saving:
        saved.result()
