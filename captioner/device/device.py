"""The device: one thread that owns a loaded checkpoint and generates captions.

Pictures stand in line for it. Those at the front are prepared on a thread of their own, while it
captions earlier ones. It knows nothing of Prefect, or of what a caption is for.
"""

import logging
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from captioner.checkpoint.memory import share_arenas
from captioner.device.model import MlxModel, freed_afterwards, peak_memory_bytes
from captioner.device.ready import Ready
from captioner.device.rows import Request, Row, Rows
from captioner.device.stopwatch import Stopwatch
from captioner.device.troubles import cannot_compile, is_dead, is_out_of_memory
from captioner.device.wording import as_wished
from captioner.device.work import Question, Take, Work
from captioner.errors import CaptionError, CheckpointError, DeviceError, DeviceStopped, first_line
from captioner.records import DeviceFigures
from captioner.text import listed, printable

logger = logging.getLogger(__name__)

GO_ON = "run again to go on where it stopped."
PREPARED_AT_MOST = 1  # pictures that wait for the device with their pixels in memory
IDLE_SECONDS = 0.2  # how often a thread that waits looks whether the device was stopped
PATIENCE_SECONDS = 2.0  # with a picture that is being prepared when the device stops


class Device:
    """One loaded checkpoint on one thread, for as long as a `with` lasts.

    A plain class with a lock in it: Prefect passes it from task to task as it is.
    """

    # What may stand in line so that it never waits: next, prepared, and being prepared.
    ahead = 1 + PREPARED_AT_MOST + 1

    def __init__(
        self,
        directory: Path,
        batch_size: int | Literal["auto"] = 1,
        max_tokens: int = 512,
        schema: str | None = None,
    ) -> None:
        """Load the checkpoint in `directory`, to caption `batch_size` pictures at a time.

        With "auto" as many as there is memory left for, at `max_tokens` tokens each; one at a time
        unless the family of the model is known to caption the same in batches.

        Raises:
            CheckpointError: MLX cannot load it, or not hold its answers to `schema`.
        """
        share_arenas()
        self.peak_memory_bytes = 0
        self._stopwatch = Stopwatch()
        self._open: dict[Work, None] = {}  # begun and not ended, in their order
        self._line: queue.SimpleQueue[Work | None] = queue.SimpleQueue()  # to be prepared
        self._queue: queue.Queue[Ready] = queue.Queue(PREPARED_AT_MOST)
        self._ahead: deque[Ready] = deque()  # taken from the queue, to be begun next
        self._again: deque[Ready] = deque()  # to be done once more, since their batch failed
        self._working: dict[Row, tuple[Ready, Question]] = {}
        self._lock = threading.Lock()  # nothing is put in line once all that is was given up
        self._stopping = threading.Event()  # the thread ends or has ended, for whatever reason
        self._stop_asked, self._died_of = False, f"The MLX device has died; {GO_ON}"
        loaded: Future[MlxModel] = Future()
        # daemons: one may hang in a library, and the process has to end
        self._thread = threading.Thread(
            target=self._run,
            args=(directory, batch_size, max_tokens, schema, loaded),
            name="mlx-device",
            daemon=True,
        )
        started = time.perf_counter()
        self._thread.start()
        self._model = loaded.result()
        self.load_seconds = time.perf_counter() - started
        self.batch_size = self._batch_size
        self.model_type = self._model.model_type
        self._preparing = threading.Thread(target=self._prepare, name="prepare", daemon=True)
        self._preparing.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def begin(self, take: Take, request: Request) -> Work:
        """Put a picture in line; returns at once. They are taken up in the order of these calls.

        `take` gives its pixels; it is called once, on the thread that prepares. Once the device has
        stopped, the picture fails at once.
        """
        work = Work(take, request)
        with self._lock:
            if not self._stopping.is_set():
                self._open[work] = None
                self._line.put(work)
                work.when_ended(self._open.pop)
                return work
        work.fail(self._gone())
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
        self._preparing.join(PATIENCE_SECONDS)

    # What follows runs on the thread that prepares.

    def _prepare(self) -> None:
        while (work := self._line.get()) and not self._stopping.is_set():
            try:
                self._enqueue(Ready.of(work, self._model.prepare_each))
            except CaptionError as error:
                work.fail(error)
            except BaseException as error:  # such as a panic in the tokenizers' Rust
                work.fail(CaptionError(f"it cannot be prepared: {first_line(error)}"))

    def _enqueue(self, ready: Ready) -> None:
        while not self._stopping.is_set():
            with suppress(queue.Full):
                return self._queue.put(ready, timeout=IDLE_SECONDS)

    def _gone(self) -> DeviceError:
        if self._stop_asked:
            return DeviceStopped("The run was interrupted before this picture was captioned.")
        return DeviceError(self._died_of)

    # What follows runs on the device's own thread.

    def _run(
        self,
        directory: Path,
        batch_size: int | Literal["auto"],
        max_tokens: int,
        schema: str | None,
        loaded: "Future[MlxModel]",
    ) -> None:
        try:
            model = MlxModel(directory)
            self._batch_size = model.batch_size(batch_size, max_tokens)
            if schema:
                model.hold_to(schema)
        except CheckpointError as error:
            loaded.set_exception(error)
            return
        except BaseException as error:
            loaded.set_exception(CheckpointError(f"MLX cannot start: {first_line(error)}"))
            return
        loaded.set_result(model)
        try:
            with freed_afterwards(), model.wired():
                self._caption(model)
        finally:
            self._stopwatch.end()
            self._give_all_up()

    def _give_all_up(self) -> None:
        with self._lock:
            self._stopping.set()
            works = list(self._open)
        self._line.put(None)
        for work in works:
            work.fail(self._gone())

    def _caption(self, model: MlxModel) -> None:
        """Keep the rows full and step them, until the device is stopped."""
        rows = model.rows(capacity := self._capacity())
        while not self._stopping.is_set():
            if not self._working and capacity != self._capacity():
                rows = model.rows(capacity := self._capacity())
            try:
                self._take(wait=not rows)
                self._fill(model, rows, capacity)
                self._step(model, rows)
            except Exception as error:
                self._give_up(error)
                capacity = 0  # these rows are of no use any more

    def _capacity(self) -> int:
        """As many rows as asked for; one while there are pictures whose batch failed."""
        pictures = (*self._again, *self._ahead, *self._pictures())
        return 1 if any(ready.alone for ready in pictures) else self._batch_size

    def _pictures(self) -> list[Ready]:
        """Those of which something is being generated, in their order."""
        return list(dict.fromkeys(ready for ready, _ in self._working.values()))

    def _take(self, wait: bool) -> None:
        """Take the next picture; when there is nothing else to do, `wait` a moment for it."""
        if self._ahead:
            return
        with suppress(queue.Empty):
            ready = self._again.popleft() if self._again else self._next(wait)
            self._stopwatch.begin()
            self._ahead.append(ready)

    def _next(self, wait: bool) -> Ready:
        if not wait or not self._queue.empty():
            return self._queue.get_nowait()
        self._stopwatch.end()
        return self._queue.get(timeout=IDLE_SECONDS)

    def _fill(self, model: MlxModel, rows: Rows, capacity: int) -> None:
        """Begin rows while there is room and a picture is ready."""
        while self._ahead and len(rows) < capacity:
            if self._ahead[0].work.ended:  # by another of its questions
                self._ahead.popleft()
            else:
                self._begin(self._ahead[0], model, rows)

    def _begin(self, ready: Ready, model: MlxModel, rows: Rows) -> None:
        """Begin the next question about the picture that is in front."""
        question, encode = ready.next(model.look)
        if not ready.waiting:
            self._ahead.popleft()
        row = Row(ready.prepared[question], question.request)
        self._working[row] = ready, question
        ready.work.begin(question)
        try:
            encoded = encode(row.prepared)
        except Exception as error:
            if is_out_of_memory(error) or is_dead(error) or cannot_compile(error):
                raise
            del self._working[row]
            ready.work.fail(CaptionError(f"MLX failed: {first_line(error)}"))
        else:
            rows.add(row, encoded)

    def _step(self, model: MlxModel, rows: Rows) -> None:
        for row in rows.step():
            self.peak_memory_bytes = peak_memory_bytes()
            ready, question = self._working[row]
            if row.loop and question.again("repeats itself"):
                self._once_more(ready, question)
            else:
                self._answer(ready, question, row, model)
            del self._working[row]  # last, or a picture that fails here would be forgotten

    def _once_more(self, ready: Ready, question: Question) -> None:
        ready.waiting.insert(0, question)
        if ready not in self._ahead:
            self._ahead.appendleft(ready)

    def _answer(self, ready: Ready, question: Question, row: Row, model: MlxModel) -> None:
        try:
            made = as_wished(model.describe(row), question.asked)
        except CaptionError as error:
            return ready.work.fail(error)
        banned = listed(map(printable, made.banned))
        if banned and question.again(f"holds a banned phrase ({banned})"):
            return self._once_more(ready, question)
        attempts, together = question.attempt, self._batch_size
        ready.work.answer(question, replace(made, attempts=attempts, batch_size=together))

    def _give_up(self, error: Exception) -> None:
        """A lone picture fails; several are done again, one by one, to find the one that fails.

        When memory was the reason, all later batches are half as large. When the GPU refuses
        everything, or nothing can be compiled any more, there is no use in going on.
        """
        trouble = cannot_compile(error)
        if trouble or is_dead(error):
            died = f"The MLX device has died ({first_line(error)}); {GO_ON}"
            self._died_of = f"{trouble} {GO_ON.capitalize()}" if trouble else died
            self._stopping.set()
            return
        pictures, rows = self._pictures(), list(self._working.values())
        self._working.clear()
        if len(rows) == 1:
            pictures[0].work.fail(CaptionError(f"MLX failed: {first_line(error)}"))
        if len(rows) <= 1:
            return
        if is_out_of_memory(error):
            self._batch_size = max(1, self._batch_size // 2)
            logger.warning("MLX ran out of memory; going on with --batch-size %d", self._batch_size)
        for ready, question in reversed(rows):
            ready.alone = True
            ready.waiting.insert(0, question)
        self._again.extend(ready for ready in pictures if ready not in self._ahead)
