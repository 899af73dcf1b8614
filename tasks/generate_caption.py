"""GenerateCaption: one picture at a time on the MLX device, in order."""

from functools import partial
from logging import Logger, LoggerAdapter

from PIL import Image
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from captioner.devices import device_of
from captioner.errors import CaptionError, DeviceStopped
from captioner.fingerprints import looks_unchanged, stamp_of
from captioner.image_files import UnreadableImage
from captioner.images import fitted, load_image
from captioner.mlx_rows import Request
from captioner.records import Caption, LoadedModel, Picture, Stamp
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
    reader = _Reader(picture, settings)
    attempts = (settings.temperature, *RETRY_TEMPERATURES)
    for attempt, temperature in enumerate(attempts, start=1):
        generation = device_of(model).caption(
            turn,
            open_image=reader.read,
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
    return Caption(picture, settings.user_prompt, generation, reader.source, attempt)


class _Reader:
    """Reads the picture, and notes which file contents it was made of."""

    def __init__(self, picture: Picture, settings: Settings) -> None:
        self._path = picture.path
        self._settings = settings
        self._validated = picture.source

    def read(self) -> Image.Image:
        """The picture as the model is to see it.

        Raises:
            UnreadableImage: it cannot be decoded any more, or is being written to.
        """
        image = self._load()
        if self._validated and self._is(self._validated):
            self.source = self._validated
            return image
        try:
            self.source = stamp_of(self._path)
        except OSError as error:
            raise UnreadableImage(f"cannot be read: {error.strerror}") from error
        image = self._load()
        if not self._is(self.source):
            raise UnreadableImage("the file is being written to; run again when it is whole")
        return image

    def _load(self) -> Image.Image:
        return load_image(self._path, self._settings.max_pixels, self._settings.background)

    def _is(self, stamp: Stamp) -> bool:
        try:
            return looks_unchanged(self._path, stamp)
        except OSError:
            return False


def _log_start(
    logger: "Logger | LoggerAdapter[Logger]", picture: Picture, max_pixels: int, attempt: int
) -> None:
    if attempt > 1:
        logger.info("%s repeats itself; attempt %d...", picture.label, attempt)
        return
    logger.info("[%d/%d] Processing %s...", picture.number, picture.total, picture.label)
    if picture.again:
        logger.info("%s is captioned again: %s", picture.label, picture.again)
    seen = fitted(picture.size, max_pixels)
    if seen != picture.size:
        logger.info("%s is scaled down from %d×%d to %d×%d", picture.label, *picture.size, *seen)
