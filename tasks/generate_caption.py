"""GenerateCaption: one picture at a time on the MLX device, in order."""

from functools import partial
from logging import Logger, LoggerAdapter

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from captioner.devices import device_of
from captioner.errors import CaptionError, DeviceStopped
from captioner.image_files import UnreadableImage
from captioner.images import fitted, load_image
from captioner.mlx_rows import Request
from captioner.records import Caption, LoadedModel, Picture
from captioner.settings import Settings

# A greedy caption that is stuck would be stuck again: each further attempt samples more freely.
RETRY_TEMPERATURES = (0.4, 0.8)


@task(task_run_name="caption {picture.label}", cache_policy=NO_CACHE)
def generate_caption(
    picture: Picture, turn: int, model: LoadedModel, settings: Settings
) -> Caption | State[Caption]:
    """The caption of `picture`; `turn` is its place in the queue for the device, from 0.

    A caption that is cut, stuck or empty is in a state `Flagged` that says so. Cancelled when the
    run was interrupted before the device was done with it.

    Raises:
        CaptionError: this picture got no caption.
        DeviceError: the device has died.
    """
    logger = get_run_logger()
    try:
        caption = _caption(logger, picture, turn, model, settings)
    except DeviceStopped as error:
        return Cancelled(message=str(error))
    except (CaptionError, UnreadableImage) as error:
        raise CaptionError(f"No caption for {picture.label}: {error}") from error
    if flags := ", ".join(caption.generation.flags):
        logger.warning("The caption of %s is flagged: %s", picture.label, flags)
        return Completed(name="Flagged", message=flags, data=caption)
    return caption


def _caption(
    logger: "Logger | LoggerAdapter[Logger]",
    picture: Picture,
    turn: int,
    model: LoadedModel,
    settings: Settings,
) -> Caption:
    attempts = (settings.temperature, *RETRY_TEMPERATURES)
    for attempt, temperature in enumerate(attempts, start=1):
        generation = device_of(model).caption(
            turn,
            open_image=partial(load_image, picture.path, settings.max_pixels, settings.background),
            request=Request(
                settings.user_prompt,
                settings.system_prompt,
                settings.max_tokens,
                max(settings.temperature, temperature),
                settings.seed + attempt - 1,
            ),
            on_start=partial(_log_start, logger, picture, settings.max_pixels, attempt),
        )
        if "repetitive" not in generation.flags:
            break
    return Caption(picture, settings.user_prompt, generation, attempt)


def _log_start(
    logger: "Logger | LoggerAdapter[Logger]", picture: Picture, max_pixels: int, attempt: int
) -> None:
    if attempt > 1:
        logger.info("%s repeats itself; attempt %d...", picture.label, attempt)
        return
    logger.info("[%d/%d] Processing %s...", picture.number, picture.total, picture.label)
    seen = fitted(picture.size, max_pixels)
    if seen != picture.size:
        logger.info("%s is scaled down from %d×%d to %d×%d", picture.label, *picture.size, *seen)
