"""ProcessImage: every picture through ValidateImage, GenerateCaption and SaveJSON.

Work goes through in a window of two chunks: while the device captions one, the next is validated
and queued. So the device starts at once, and no more than two chunks are on their way at a time.
Knows the order of the three states, and nothing of what they do.
"""

from itertools import count
from typing import Any, NoReturn, TypeVar, cast
from uuid import UUID

from prefect import unmapped
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture, as_completed
from prefect.results import ResultRecord  # type: ignore[attr-defined]
from prefect.utilities.annotations import opaque

from captioner.devices import device_of
from captioner.errors import CaptionError, DeviceStopped
from captioner.records import Caption, Failure, LoadedModel, Outcome, Picture, Skipped
from captioner.settings import MAX_BATCH_SIZE, Settings
from flows.forgetting import forget
from tasks.generate_caption import generate_caption
from tasks.save_caption import save_caption
from tasks.validate_image import validate_image

CHUNK_SIZE = 8  # or the batch size, when that is larger
MAX_WORKERS = 3 * MAX_BATCH_SIZE  # two chunks being captioned, a third one being validated

INTERRUPTS = (KeyboardInterrupt, TerminationSignal)

T = TypeVar("T")
# by the caption to come: its picture, and the task run that validated it
Captioning = dict[PrefectFuture[Caption | State[Caption]], tuple[Picture, UUID]]


def process_images(outcome: Outcome, model: LoadedModel, settings: Settings) -> None:
    """Caption what `outcome` has to do, and note in it what became of each.

    An interrupt (Ctrl-C, SIGTERM) gives up the picture on the device; what is finished is kept.

    Raises:
        OutputError: a caption cannot be saved.
        DeviceError: the device has stopped.
    """
    try:
        _process_chunks(outcome, model, settings)
    except INTERRUPTS:
        outcome.interrupted = True
        device_of(model).stop()  # or the threads of the window would go on captioning


def _process_chunks(outcome: Outcome, model: LoadedModel, settings: Settings) -> None:
    turns = count()
    size = max(CHUNK_SIZE, model.batch_size)
    captioning: Captioning = {}
    todo = outcome.plan.todo
    for start in range(0, len(todo), size):
        valid = _validated(todo[start : start + size], outcome, settings)
        captions = generate_caption.map(
            [whole(picture) for picture in valid],
            [next(turns) for _ in valid],
            unmapped(whole(model)),
            unmapped(whole(settings)),
        )
        captioning.update(zip(captions, valid.items(), strict=True))
        _save(captioning, size, outcome, model, settings)
    _save(captioning, 0, outcome, model, settings)


def _validated(
    pictures: list[Picture], outcome: Outcome, settings: Settings
) -> dict[Picture, UUID]:
    """Those that can be captioned, each with the task run that says so."""
    valid = {}
    skipped: list[UUID] = []
    todo = [whole(picture) for picture in pictures]
    for future in validate_image.map(todo, unmapped(whole(settings))):
        result = _returned(future)
        if isinstance(result, Picture):
            valid[result] = future.task_run_id
        elif isinstance(result, Skipped):
            outcome.skipped.append(result)
            skipped.append(future.task_run_id)
        else:
            _give_up(result)
    forget(skipped)
    return valid


def _save(
    captioning: Captioning, leave: int, outcome: Outcome, model: LoadedModel, settings: Settings
) -> None:
    """Save each caption as soon as it is made, until only `leave` of them are being made."""
    ended: list[UUID] = []
    while len(captioning) > leave:
        future = next(as_completed(list(captioning)))
        picture, validated = captioning.pop(future)
        result = _returned(future)
        if isinstance(result, Caption):
            saving = save_caption.submit(whole(result), whole(model), whole(settings))
            outcome.add(result)
            try:
                saving.wait()
            except INTERRUPTS:
                saving.wait()  # writing a file takes no time; half of it is no use
                raise
            if isinstance(error := _returned(saving), BaseException):
                raise error
            ended.append(saving.task_run_id)
        elif isinstance(result, CaptionError):
            outcome.failures.append(Failure(picture, str(result)))
        else:
            _give_up(result)
        ended += (validated, future.task_run_id)
    forget(ended)


def _returned(future: PrefectFuture[Any]) -> object:
    """What the task run returned, in whatever state, or the exception that ended it.

    `future.result()` asks the state, which does it in a coroutine on another thread, at the cost of
    2 ms of processor time a picture.
    """
    future.wait()
    record = future.state.data
    if isinstance(record, ResultRecord):
        return record.result
    return future.result(raise_on_failure=False)


def _give_up(result: object) -> NoReturn:
    raise result if isinstance(result, BaseException) else DeviceStopped(str(result))


def whole(argument: T) -> T:
    """The argument as it is: Prefect would walk through all that is in it, for each task run."""
    return cast(T, opaque(argument))
