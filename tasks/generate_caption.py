"""GenerateCaption: one picture at a time on the MLX device, in order."""

from functools import partial
from logging import Logger, LoggerAdapter

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from captioner.devices import device_of
from captioner.errors import CaptionError, DeviceStopped
from captioner.image_files import UnreadableImage
from captioner.images import fitted, load_image
from captioner.mlx_rows import Request
from captioner.records import Caption, LoadedModel, Picture
from captioner.settings import Settings


@task(task_run_name="caption {picture.label}", cache_policy=NO_CACHE)
def generate_caption(
    picture: Picture, turn: int, model: LoadedModel, settings: Settings
) -> Caption | State[Caption]:
    """The caption of `picture`; `turn` is its place in the queue for the device, from 0.

    Cancelled when the run was interrupted before the device was done with it.

    Raises:
        CaptionError: this picture got no caption.
        DeviceError: the device has died.
    """
    request = Request(
        settings.user_prompt,
        settings.system_prompt,
        settings.max_tokens,
        settings.temperature,
        settings.seed,
    )
    try:
        generation = device_of(model).caption(
            turn,
            open_image=partial(load_image, picture.path, settings.max_pixels),
            request=request,
            on_start=partial(_log_start, get_run_logger(), picture, settings.max_pixels),
        )
    except DeviceStopped as error:
        return Cancelled(message=str(error))
    except (CaptionError, UnreadableImage) as error:
        raise CaptionError(f"No caption for {picture.label}: {error}") from error
    return Caption(picture, settings.user_prompt, generation)


def _log_start(logger: "Logger | LoggerAdapter[Logger]", picture: Picture, max_pixels: int) -> None:
    logger.info("[%d/%d] Processing %s...", picture.number, picture.total, picture.label)
    seen = fitted(picture.size, max_pixels)
    if seen != picture.size:
        logger.info("%s is scaled down from %d×%d to %d×%d", picture.label, *picture.size, *seen)
