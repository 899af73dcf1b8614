"""The device: one thread that owns a loaded checkpoint and generates captions.

Other threads hand it pictures, prepared on their own time, over a bounded queue, and wait for the
captions. Where it is safe, an encoder looks at the next pictures while it generates. It knows
nothing of files, of Prefect, or of what a caption is for.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from captioner.errors import (
    CaptionError,
    CheckpointError,
    DeviceError,
    DeviceStopped,
    first_line,
)
from captioner.mlx_encoding import Encoded, Encoder, Prepared
from captioner.mlx_model import (
    MlxModel,
    freed_afterwards,
    is_out_of_memory,
    peak_memory_bytes,
)
from captioner.mlx_rows import Request, Row, Rows
from captioner.records import DeviceFigures, Generation
from captioner.stopwatch import Stopwatch
from captioner.turnstile import Turnstile

logger = logging.getLogger(__name__)

PREPARED_AT_MOST = 1  # pictures that wait for the device with their pixels in memory
ENCODED_AT_MOST = 2  # pictures that are encoded ahead: one done, one being done
IDLE_SECONDS = 0.2  # how often a thread that waits looks whether the device was stopped


@dataclass(eq=False, slots=True)
class _Job:
    prepared: Prepared
    request: Request
    encoding: "Future[Encoded] | None" = None  # by the encoder, where there is one
    alone: bool = False  # because the batch that it was in has failed
    started: threading.Event = field(default_factory=threading.Event)
    result: "Future[Generation]" = field(default_factory=Future)

    def fail(self, error: Exception) -> None:
        self.result.set_exception(error)
        self.started.set()


class Device:
    """One loaded checkpoint on one thread.

    `caption` may be called from any number of threads: each prepares its picture on its own
    thread, in the order of their turns, while the device works on earlier ones.
    """

    def __init__(
        self,
        directory: Path,
        batch_size: int | Literal["auto"] = 1,
        max_tokens: int = 512,
        encode_ahead: bool = True,
    ) -> None:
        """Load the checkpoint in `directory`, to caption `batch_size` pictures at a time.

        With "auto" as many as there is memory left for, at `max_tokens` tokens each. Pictures are
        encoded ahead on a thread of their own where that is safe, and never without `encode_ahead`.

        Raises:
            CheckpointError: MLX cannot load it.
        """
        self.peak_memory_bytes = 0
        self._encode_ahead = encode_ahead
        self._stopwatch = Stopwatch()
        self._working: dict[Row, _Job] = {}
        self._ahead: deque[_Job] = deque()  # taken from the queue, to be begun next
        self._again: deque[_Job] = deque()  # to be done once more, alone, after a batch failed
        self._jobs: queue.Queue[_Job] = queue.Queue(PREPARED_AT_MOST)
        self._turnstile = Turnstile()
        self._stopping = threading.Event()  # the thread ends or has ended, for whatever reason
        self._stop_asked = False
        loaded: Future[MlxModel] = Future()
        self._thread = threading.Thread(
            target=self._run,
            args=(directory, batch_size, max_tokens, loaded),
            name="mlx-device",
            daemon=True,
        )
        started = time.perf_counter()
        self._thread.start()
        self._model = loaded.result()
        self.load_seconds = time.perf_counter() - started
        self.batch_size = self._batch_size

    def caption(
        self,
        turn: int,
        open_image: Callable[[], Image.Image],
        request: Request,
        on_start: Callable[[], None],
    ) -> Generation:
        """Caption one picture; blocks until it is done.

        `turn` counts the pictures of a run from 0. `open_image` is called when there is room for
        one more prepared picture, `on_start` when the device takes this one up.

        Raises:
            CaptionError: this picture cannot be captioned; others can.
            DeviceError: the device has stopped.
            Whatever `open_image` raises.
        """
        with self._turnstile.passage(turn):
            job = _Job(self._model.prepare(open_image(), request), request)
            self._enqueue(job)
        job.started.wait()
        if not job.result.done():
            on_start()
        return job.result.result()

    def figures(self) -> DeviceFigures:
        """What it did so far."""
        return DeviceFigures(
            self._stopwatch.busy_seconds, self._stopwatch.idle_seconds, self.peak_memory_bytes
        )

    def stop(self) -> None:
        """Give up what is running and what waits, free the checkpoint and end the thread."""
        self._stop_asked = True
        self._stopping.set()
        self._thread.join()

    def _enqueue(self, job: _Job) -> None:
        while not self._stopping.is_set():
            try:
                self._jobs.put(job, timeout=IDLE_SECONDS)
            except queue.Full:
                continue
            if self._stopping.is_set():  # perhaps after the thread had emptied the queue
                self._fail_waiting()
            return
        raise self._gone()

    def _gone(self) -> DeviceError:
        if self._stop_asked:
            return DeviceStopped("The run was interrupted before this picture was captioned.")
        return DeviceError("The MLX device has died; run again to go on where it stopped.")

    # What follows runs on the device's own thread.

    def _run(
        self,
        directory: Path,
        batch_size: int | Literal["auto"],
        max_tokens: int,
        loaded: "Future[MlxModel]",
    ) -> None:
        try:
            model = MlxModel(directory)
            if batch_size == "auto":
                batch_size = model.fitting_batch_size(max_tokens)
            self._batch_size = batch_size
        except CheckpointError as error:
            loaded.set_exception(error)
            return
        except BaseException as error:
            loaded.set_exception(CheckpointError(f"MLX cannot start: {first_line(error)}"))
            return
        loaded.set_result(model)
        try:
            with freed_afterwards(), model.wired(), self._encoder_of(model) as encoder:
                self._work(model, encoder)
        finally:
            self._stopping.set()
            for job in (*self._working.values(), *self._ahead, *self._again):
                job.fail(self._gone())
            self._fail_waiting()

    def _encoder_of(self, model: MlxModel) -> AbstractContextManager[Encoder | None]:
        return model.encoder() if self._encode_ahead else nullcontext()

    def _work(self, model: MlxModel, encoder: Encoder | None) -> None:
        """Keep the rows full and step them, until the device is stopped."""
        rows = model.rows(capacity := self._capacity())
        while not self._stopping.is_set():
            if not self._working and capacity != self._capacity():
                rows = model.rows(capacity := self._capacity())
            try:
                self._take(encoder, wait=not rows)
                self._fill(model, rows, capacity)
                self._step(model, rows)
            except Exception as error:
                self._give_up(error)
                capacity = 0  # these rows are of no use any more

    def _capacity(self) -> int:
        """As many rows as asked for; one while there are pictures whose batch failed."""
        jobs = (*self._again, *self._ahead, *self._working.values())
        return 1 if any(job.alone for job in jobs) else self._batch_size

    def _take(self, encoder: Encoder | None, wait: bool) -> None:
        """Take the next pictures from the queue and have them encoded.

        When there is nothing else to do, `wait` a moment for one.
        """
        while len(self._ahead) < (ENCODED_AT_MOST if encoder else 1):
            wait = wait and not self._ahead
            try:
                job = self._again.popleft() if self._again else self._next(wait)
            except queue.Empty:
                return
            self._stopwatch.begin()
            job.encoding = encoder.begin(job.prepared) if encoder else None
            self._ahead.append(job)

    def _next(self, wait: bool) -> _Job:
        if not wait or not self._jobs.empty():
            return self._jobs.get_nowait()
        self._stopwatch.end()
        return self._jobs.get(timeout=IDLE_SECONDS)

    def _fill(self, model: MlxModel, rows: Rows, capacity: int) -> None:
        """Begin rows while there is room and a picture is ready; waits for it when there is no
        row."""
        while self._ahead and len(rows) < capacity:
            if len(rows) and (encoding := self._ahead[0].encoding) and not encoding.done():
                return
            job = self._ahead.popleft()
            row = Row(job.prepared, job.request)
            self._working[row] = job
            job.started.set()
            try:
                encoded = job.encoding.result() if job.encoding else model.encode(job.prepared)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                del self._working[row]
                job.fail(CaptionError(f"MLX failed: {first_line(error)}"))
                continue
            finally:
                job.encoding = None  # or its arrays would live until the caption is done
            row.began = time.perf_counter() - encoded.seconds
            rows.add(row, encoded)

    def _step(self, model: MlxModel, rows: Rows) -> None:
        for row in rows.step():
            self.peak_memory_bytes = peak_memory_bytes()
            self._working.pop(row).result.set_result(model.describe(row))

    def _give_up(self, error: Exception) -> None:
        """A lone picture fails; several are done again, one by one, to find the one that fails.

        When memory was the reason, all later batches are half as large.
        """
        jobs = list(self._working.values())
        self._working.clear()
        if len(jobs) == 1:
            jobs[0].fail(CaptionError(f"MLX failed: {first_line(error)}"))
            return
        if is_out_of_memory(error):
            self._batch_size = max(1, self._batch_size // 2)
            logger.warning("MLX ran out of memory; going on with --batch-size %d", self._batch_size)
        for job in jobs:
            job.alone = True
        self._again.extend(jobs)

    def _fail_waiting(self) -> None:
        while True:
            try:
                self._jobs.get_nowait().fail(self._gone())
            except queue.Empty:
                return
