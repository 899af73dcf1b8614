"""The device: one thread that owns a loaded checkpoint and generates captions.

Pictures stand in line for it. Those at the front are read and prepared on a thread of their own,
and where it is safe an encoder looks at the next ones, while it captions earlier ones. It knows
nothing of Prefect, or of what a caption is for.
"""

import logging
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from captioner.checkpoint.memory import share_arenas
from captioner.device.encoding import Encoder
from captioner.device.model import (
    MlxModel,
    freed_afterwards,
    is_out_of_memory,
    peak_memory_bytes,
)
from captioner.device.rows import Request, Row, Rows
from captioner.device.stopwatch import Stopwatch
from captioner.device.work import Work
from captioner.errors import (
    CaptionError,
    CheckpointError,
    DeviceError,
    DeviceStopped,
    first_line,
)
from captioner.pictures.reading import Reader
from captioner.records import DeviceFigures

logger = logging.getLogger(__name__)

PREPARED_AT_MOST = 1  # pictures that wait for the device with their pixels in memory
ENCODED_AT_MOST = 2  # pictures that are encoded ahead: one done, one being done
IDLE_SECONDS = 0.2  # how often a thread that waits looks whether the device was stopped


class Device:
    """One loaded checkpoint on one thread, for as long as a `with` lasts.

    A plain class with a lock in it: Prefect passes it from task to task as it is.
    """

    # What may stand in line so that it never waits: being encoded, prepared, and being prepared.
    ahead = ENCODED_AT_MOST + PREPARED_AT_MOST + 1

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
        share_arenas()
        self.peak_memory_bytes = 0
        self._encode_ahead = encode_ahead
        self._stopwatch = Stopwatch()
        self._working: dict[Row, Work] = {}
        self._ahead: deque[Work] = deque()  # taken from the queue, to be begun next
        self._again: deque[Work] = deque()  # to be done once more: stuck, or its batch failed
        self._queue: queue.Queue[Work] = queue.Queue(PREPARED_AT_MOST)
        self._preparing = ThreadPoolExecutor(1, "prepare")
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def begin(self, reader: Reader, request: Request) -> Work:
        """Put a picture in line; returns at once. They are taken up in the order of these calls."""
        work = Work(reader, request)
        self._preparing.submit(self._prepare, work)
        return work

    def figures(self) -> DeviceFigures:
        """What it did so far."""
        return DeviceFigures(
            self._stopwatch.busy_seconds, self._stopwatch.idle_seconds, self.peak_memory_bytes
        )

    def stop(self) -> None:
        """Give up what is running and what waits, free the checkpoint and end the threads."""
        self._stop_asked = True
        self._stopping.set()
        self._thread.join()
        self._preparing.shutdown(wait=False)  # it may hang in a file that cannot be read

    # What follows runs on the thread that prepares.

    def _prepare(self, work: Work) -> None:
        try:
            if not self._stopping.is_set():
                work.prepared = self._model.prepare(work.reader.read(), work.request)
        except Exception as error:
            work.fail(error)
        else:
            self._enqueue(work)

    def _enqueue(self, work: Work) -> None:
        while not self._stopping.is_set():
            try:
                self._queue.put(work, timeout=IDLE_SECONDS)
            except queue.Full:
                continue
            if self._stopping.is_set():  # perhaps after the thread had emptied the queue
                self._fail_waiting()
            return
        work.fail(self._gone())

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
                self._caption(model, encoder)
        finally:
            self._stopping.set()
            for work in (*self._working.values(), *self._ahead, *self._again):
                work.fail(self._gone())
            self._fail_waiting()

    def _encoder_of(self, model: MlxModel) -> AbstractContextManager[Encoder | None]:
        return model.encoder() if self._encode_ahead else nullcontext()

    def _caption(self, model: MlxModel, encoder: Encoder | None) -> None:
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
        works = (*self._again, *self._ahead, *self._working.values())
        return 1 if any(work.alone for work in works) else self._batch_size

    def _take(self, encoder: Encoder | None, wait: bool) -> None:
        """Take the next pictures from the queue and have them encoded.

        When there is nothing else to do, `wait` a moment for one.
        """
        while len(self._ahead) < (ENCODED_AT_MOST if encoder else 1):
            wait = wait and not self._ahead
            try:
                work = self._again.popleft() if self._again else self._next(wait)
            except queue.Empty:
                return
            self._stopwatch.begin()
            work.encoding = encoder.begin(work.prepared) if encoder else None
            self._ahead.append(work)

    def _next(self, wait: bool) -> Work:
        if not wait or not self._queue.empty():
            return self._queue.get_nowait()
        self._stopwatch.end()
        return self._queue.get(timeout=IDLE_SECONDS)

    def _fill(self, model: MlxModel, rows: Rows, capacity: int) -> None:
        """Begin rows while there is room and a picture is ready; waits for it when there is no
        row."""
        while self._ahead and len(rows) < capacity:
            if len(rows) and (encoding := self._ahead[0].encoding) and not encoding.done():
                return
            work = self._ahead.popleft()
            row = Row(work.prepared, work.request)
            self._working[row] = work
            work.begin()
            try:
                encoded = work.encoding.result() if work.encoding else model.encode(work.prepared)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                del self._working[row]
                work.fail(CaptionError(f"MLX failed: {first_line(error)}"))
                continue
            finally:
                work.encoding = None  # or its arrays would live until the caption is done
            row.began = time.perf_counter() - encoded.seconds
            rows.add(row, encoded)

    def _step(self, model: MlxModel, rows: Rows) -> None:
        for row in rows.step():
            self.peak_memory_bytes = peak_memory_bytes()
            work = self._working.pop(row)
            if row.loop and work.again():
                self._ahead.appendleft(work)
            else:
                work.finish(replace(model.describe(row), attempts=work.attempt))

    def _give_up(self, error: Exception) -> None:
        """A lone picture fails; several are done again, one by one, to find the one that fails.

        When memory was the reason, all later batches are half as large.
        """
        works = list(self._working.values())
        self._working.clear()
        if len(works) == 1:
            works[0].fail(CaptionError(f"MLX failed: {first_line(error)}"))
            return
        if is_out_of_memory(error):
            self._batch_size = max(1, self._batch_size // 2)
            logger.warning("MLX ran out of memory; going on with --batch-size %d", self._batch_size)
        for work in works:
            work.alone = True
        self._again.extend(works)

    def _fail_waiting(self) -> None:
        while True:
            try:
                self._queue.get_nowait().fail(self._gone())
            except queue.Empty:
                return
