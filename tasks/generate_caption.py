"""GenerateCaption: one picture at a time on the MLX device, in order."""

from dataclasses import replace
from logging import Logger, LoggerAdapter

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from captioner.asking.language import OTHER_LANGUAGE, is_in_another
from captioner.device.device import Device
from captioner.device.work import Work
from captioner.errors import CaptionError, DeviceStopped
from captioner.pages.escaping import shown
from captioner.pictures.decoding import fitted
from captioner.pictures.reading import Valid
from captioner.records import Caption, Generation
from captioner.run import Run

CAPTION_CHARACTERS = 600


@task(task_run_name="caption {valid.job.picture.label}", cache_policy=NO_CACHE)
def generate_caption(
    valid: Valid, device: Device, work: Work, run: Run
) -> Caption | State[Caption]:
    """The caption of a picture that the device has taken up as `work`.

    A caption that is cut, stuck, empty or not as it was asked for is in a state `Flagged` that says
    so. Cancelled when the run was interrupted before the device was done with it.

    Raises:
        CaptionError: this picture got no caption.
        DeviceError: the device has died.
    """
    logger = get_run_logger()
    label = valid.job.picture.label
    for attempt in work.attempts():
        if attempt > 1:
            logger.info("%s %s; attempt %d...", label, work.why(attempt), attempt)
        else:
            _log(logger, valid, run.settings.max_pixels)
    try:
        made, stamp = _checked(work.result(), run.settings.language), valid.stamp
        caption = Caption(valid.job, work.request.user_prompt, made, stamp, valid.thumbnail)
    except DeviceStopped as error:
        logger.info("%s: %s", label, error)
        return Cancelled(message=str(error))
    except CaptionError as error:
        raise CaptionError(f"No caption for {label}: {error}") from error
    logger.info("%s: %s", label, _quoted(caption.generation.text), extra={"caption": True})
    if flags := caption.generation.flags_in_words:
        logger.warning("The caption of %s is flagged: %s", label, flags)
        return Completed(name="Flagged", message=flags, data=caption)
    return caption


def _checked(made: Generation, language: str | None) -> Generation:
    """The caption, flagged when it is not in the language that was asked for."""
    if language is None or not is_in_another(made.text, language):
        return made
    return replace(made, flags=(*made.flags, OTHER_LANGUAGE))


def _quoted(text: str) -> str:
    """A caption in one line, for its task run's log; the terminal tells its file."""
    return f"“{shown(text, CAPTION_CHARACTERS)}”"


def _log(logger: "Logger | LoggerAdapter[Logger]", valid: Valid, max_pixels: int) -> None:
    job, label = valid.job, valid.job.picture.label
    logger.info("[%d/%d] Processing %s...", job.number, job.total, label)
    if job.reason:
        logger.info("%s is captioned again: %s", label, job.reason)
    seen = fitted(valid.size, max_pixels)
    if seen != valid.size:
        logger.info("%s is scaled down from %d×%d to %d×%d", label, *valid.size, *seen)
