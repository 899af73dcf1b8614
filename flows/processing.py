"""ProcessImage: every picture through ValidateImage, GenerateCaption and SaveJSON.

Work goes through in a window: a few pictures are read ahead, and as many of them as the device can
use stand in line for it. A `caption` task run begins when the device takes its picture up, so the
run's page shows what happened. However large the folder, no more than that is under way.
Knows the order of the three states, and nothing of what they do.
"""

import threading
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import Any, NoReturn

from prefect import get_run_logger, unmapped
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from captioner.device.device import Device
from captioner.device.rows import Request
from captioner.device.work import Work
from captioner.errors import CaptionError, DeviceError, InputGone
from captioner.groups import MAX_BATCH_SIZE
from captioner.output.folder import OutputFolder
from captioner.pages import gallery
from captioner.pictures.opened import MAX_FILE_PIXELS
from captioner.pictures.reading import Valid
from captioner.pictures.scan import check_still_there
from captioner.records import Caption, Failure, Job, Skipped
from captioner.run import Run
from flows.endings import INTERRUPTS, interrupts_deferred, interrupts_noted
from tasks.generate_caption import generate_caption
from tasks.save_caption import save_caption
from tasks.validate_image import validate_image

CHUNK_SIZE = 8  # pictures that are validated at a time; the next as many follow at once
HELD_BYTES = 1 << 26  # of pixels that wait for the device; four pictures may need more
SIGNAL_SECONDS = 0.2  # until an interrupt is seen at most
# a thread for each task run that may be under way
THREADS: TaskRunner[PrefectFuture[Any]] = ThreadPoolTaskRunner(  # type: ignore[assignment]
    MAX_BATCH_SIZE + 4 * CHUNK_SIZE
)


def chunk_size(max_pixels: int) -> int:
    """How many pictures to validate at a time when they are scaled down to `max_pixels`, or not at
    all with 0: two chunks may wait for the device with their pixels in memory."""
    bytes_at_most = 3 * min(max_pixels or MAX_FILE_PIXELS, MAX_FILE_PIXELS)
    return max(2, min(CHUNK_SIZE, HELD_BYTES // (2 * bytes_at_most)))


def process_images(run: Run, device: Device, output: OutputFolder) -> None:
    """Caption what the run has to do, and note in it what became of each picture.

    An interrupt gives up what is on the device, and so does an input directory that has gone; what
    is finished is saved.

    Raises:
        InputGone: the input directory is not there any more.
        OutputError: a caption cannot be saved.
        DeviceError: the device has died.
    """
    window = _Window(run, device, output)
    try:
        with interrupts_noted(run):
            window.work()
        if run.interrupted:
            window.save_the_rest()
    except InputGone:
        window.save_the_rest()
        raise
    finally:
        run.end(device.figures())


class _Window:
    """The pictures that are under way, from one state to the next."""

    def __init__(self, run: Run, device: Device, output: OutputFolder) -> None:
        self._run, self._device, self._output = run, device, output
        self._todo = iter(run.plan.todo)
        self._thumbnails = run.settings.gallery and gallery.is_ours(output)
        self._chunk_size = chunk_size(run.settings.max_pixels)
        # the first four in the order of the pictures
        self._validating: deque[tuple[Job, PrefectFuture[Valid | State[Skipped]]]] = deque()
        self._in_line: deque[tuple[Valid, Work]] = deque()
        self._captioning: dict[PrefectFuture[Caption | State[Caption]], Job] = {}
        self._saving: dict[PrefectFuture[None], Caption] = {}
        self._ended: set[PrefectFuture[Any]] = set()
        self._stopped = False
        self._moved = threading.Event()  # something has happened: look what can be done next

    def work(self) -> None:
        """Bring all pictures through; an interrupt comes while it waits."""
        while self._advance():
            self._wait()

    def save_the_rest(self) -> None:
        """Save the captions that are made; nothing new begins."""
        self._stopped = True
        self._device.stop()  # or it would go on captioning
        with suppress(*INTERRUPTS), interrupts_deferred():  # there is one already
            while self._finish():
                self._moved.wait()

    def _wait(self) -> None:
        """Until something has happened.

        Not in `wait` itself: two signals of which each raises there would break its lock.
        """
        with interrupts_deferred() as came:
            while not came and not self._moved.wait(SIGNAL_SECONDS):
                pass

    def _advance(self) -> bool:
        """Do whatever can be done now; whether there is more to come."""
        with interrupts_deferred():
            finishing = self._finish()
            self._caption()
            self._line_up()
            self._validate()
        return finishing or bool(self._validating or self._in_line or self._captioning)

    def _finish(self) -> bool:
        with interrupts_deferred():
            self._moved.clear()
            self._note_saved()
            self._save()
            self._run.on_device = tuple(self._captioning.values())
        return bool(self._captioning or self._saving)

    def _validate(self) -> None:
        if len(self._validating) + len(self._in_line) > self._chunk_size:  # with their pixels
            return
        if chunk := list(islice(self._todo, self._chunk_size)):
            rest = unmapped(self._run), unmapped(self._output), unmapped(self._thumbnails)
            futures = validate_image.map(chunk, *rest)
            self._validating.extend(zip(chunk, map(self._watched, futures), strict=True))

    def _line_up(self) -> None:
        """Hand to the device what is valid, in the order of the pictures, while it has room."""
        settings = self._run.settings
        room = self._device.batch_size + self._device.ahead
        while self._validating and len(self._in_line) + len(self._captioning) < room:
            job, future = self._validating[0]
            if future not in self._ended:
                return
            result = future.result(raise_on_failure=False)
            if isinstance(result, Skipped):
                self._run.skipped.append(result)
                skipped = (job.number, job.total, job.picture.label, result.reason)
                get_run_logger().warning("[%d/%d] Skipped %s: %s", *skipped)
            elif isinstance(result, Valid):
                work = self._device.begin(result.take, Request.of(settings, job.asked))
                work.when_begun(self._moved.set)
                self._in_line.append((result, work))
            elif isinstance(result, CaptionError):
                self._run.failures.append(Failure(job, str(result)))
            else:
                _give_up(result)
            self._validating.popleft()
            self._ended.discard(future)

    def _caption(self) -> None:
        while self._in_line and self._in_line[0][1].begun:
            valid, work = self._in_line.popleft()
            future = generate_caption.submit(valid, self._device, work, self._run)
            self._captioning[self._watched(future)] = valid.job
        self._run.on_device = tuple(self._captioning.values())

    def _save(self) -> None:
        for future in [future for future in self._captioning if future in self._ended]:
            job, result = self._captioning[future], future.result(raise_on_failure=False)
            if isinstance(result, Caption):
                saving = save_caption.submit(result, self._run, self._output)
                self._saving[self._watched(saving)] = result
            elif isinstance(result, CaptionError):
                if not self._stopped:
                    check_still_there(self._run.scan, self._run.settings.input_dir)
                self._run.failures.append(Failure(job, str(result)))
            elif not self._stopped:
                _give_up(result)
            del self._captioning[future]
            self._ended.discard(future)

    def _note_saved(self) -> None:
        for future in [future for future in self._saving if future in self._ended]:
            if (result := future.result(raise_on_failure=False)) is not None:
                _give_up(result)
            self._run.add(self._saving[future])
            del self._saving[future]
            self._ended.discard(future)

    def _watched(self, future: PrefectFuture[Any]) -> PrefectFuture[Any]:
        future.add_done_callback(self._end)
        return future

    def _end(self, future: PrefectFuture[Any]) -> None:
        self._ended.add(future)
        self._moved.set()


def _give_up(result: object) -> NoReturn:
    raise result if isinstance(result, BaseException) else DeviceError(str(result))
