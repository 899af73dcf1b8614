"""The device: one thread that owns MLX, loads a checkpoint and generates captions.

The only module that imports `mlx` and `mlx_vlm`, and only inside functions. It knows nothing of
files, of Prefect, or of what a caption is for. MLX's streams belong to the thread that made them
(https://github.com/ml-explore/mlx/issues/3727), so every array is made, used and freed on this
thread; other threads hand it numpy arrays.
"""

import importlib.util
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from captioner.errors import CaptionError, CheckpointError, DeviceError, first_line
from captioner.records import Generation
from captioner.turnstile import Turnstile

PREPARED_AT_MOST = 2  # pictures that wait for the device with their pixels in memory


@dataclass(frozen=True, slots=True)
class Request:
    """How to caption one picture."""

    user_prompt: str
    system_prompt: str | None
    max_tokens: int
    temperature: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the model takes, as numpy arrays: token ids, patches and whatever its processor adds."""

    arrays: dict[str, npt.NDArray[Any]]
    image_tokens: int
    width: int  # pixels, as the model sees the picture
    height: int


@dataclass(slots=True)
class _Job:
    prepared: Prepared
    request: Request
    started: threading.Event = field(default_factory=threading.Event)
    result: "Future[Generation]" = field(default_factory=Future)


def require_mlx_vlm() -> None:
    """Raise unless `mlx-vlm` is installed, without importing it.

    Raises:
        CheckpointError: it is not installed.
    """
    if importlib.util.find_spec("mlx_vlm") is None:
        raise CheckpointError(
            "mlx-vlm is not installed, and the multimodal checkpoints need its vision helpers: "
            "install it with `pip install mlx-vlm`."
        )


class Device:
    """One loaded checkpoint on one thread.

    `caption` may be called from any number of threads: each prepares its picture on its own
    thread, in the order of their turns, while the device works on an earlier one.
    """

    def __init__(self, directory: Path) -> None:
        """Load the checkpoint in `directory`.

        Raises:
            CheckpointError: MLX cannot load it.
        """
        self.peak_memory_bytes = 0
        self._jobs: queue.Queue[_Job] = queue.Queue(PREPARED_AT_MOST)
        self._turnstile = Turnstile()
        self._stopping = threading.Event()
        self._processor: Any = None
        self._tokenizer: Any = None
        self._config: Any = None
        loaded: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(directory, loaded), name="mlx-device", daemon=True
        )
        started = time.perf_counter()
        self._thread.start()
        loaded.result()
        self.load_seconds = time.perf_counter() - started

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
            job = _Job(self.prepare(open_image(), request), request)
            self._enqueue(job)
        job.started.wait()
        if not job.result.done():
            on_start()
        return job.result.result()

    def prepare(self, image: Image.Image, request: Request) -> Prepared:
        """Tokenise the prompt and cut the picture into patches, on the calling thread.

        Raises:
            CaptionError: the checkpoint's processor refuses the picture or the prompt.
        """
        from mlx_vlm.prompt_utils import apply_chat_template
        from mlx_vlm.utils import prepare_inputs, should_add_special_tokens

        messages = [{"role": "user", "content": request.user_prompt}]
        if request.system_prompt:
            messages.insert(0, {"role": "system", "content": request.system_prompt})
        try:
            prompt = apply_chat_template(self._processor, self._config, messages, num_images=1)
            inputs = prepare_inputs(
                self._processor,
                images=[image],
                prompts=prompt,
                image_token_index=getattr(self._config, "image_token_index", None),
                add_special_tokens=should_add_special_tokens(
                    self._config.model_type, self._processor
                ),
            )
        except Exception as error:
            raise CaptionError(f"the model's processor refuses it: {first_line(error)}") from error
        arrays = {name: np.array(value) for name, value in inputs.items() if value is not None}
        return self._described(arrays, image.size)

    def stop(self) -> None:
        """Give up what is running and what waits, free the checkpoint and end the thread."""
        self._stopping.set()
        self._thread.join()

    def _described(self, arrays: dict[str, npt.NDArray[Any]], size: tuple[int, int]) -> Prepared:
        token_id = getattr(self._config, "image_token_id", None) or getattr(
            self._config, "image_token_index", None
        )
        image_tokens = int((arrays["input_ids"] == token_id).sum()) if token_id is not None else 0
        width, height = size
        if "image_grid_thw" in arrays:  # the Qwen-VL family: patches over time, height and width
            patch = self._config.vision_config.patch_size
            _, rows, columns = (int(n) for n in arrays["image_grid_thw"][0])
            width, height = columns * patch, rows * patch
        return Prepared(arrays, image_tokens, width, height)

    def _enqueue(self, job: _Job) -> None:
        while not self._stopping.is_set() and self._thread.is_alive():
            try:
                self._jobs.put(job, timeout=0.2)
            except queue.Full:
                continue
            if self._stopping.is_set():  # perhaps after the thread had emptied the queue
                self._fail_waiting()
            return
        raise DeviceError("The MLX device has stopped.")

    # What follows runs on the device's own thread.

    def _run(self, directory: Path, loaded: "Future[None]") -> None:
        try:
            model, self._processor = _load(directory)
            self._tokenizer = getattr(self._processor, "tokenizer", self._processor)
            self._config = model.config
        except BaseException as error:
            loaded.set_exception(
                CheckpointError(f"MLX cannot load {directory}: {first_line(error)}")
            )
            return
        loaded.set_result(None)
        del loaded
        try:
            with _wired(model):
                while not self._stopping.is_set():
                    self._take_one(model)
        finally:
            self._stopping.set()
            self._fail_waiting()

    def _take_one(self, model: Any) -> None:
        try:
            job = self._jobs.get(timeout=0.2)
        except queue.Empty:
            return
        self._work(model, job)

    def _work(self, model: Any, job: _Job) -> None:
        job.started.set()
        try:
            job.result.set_result(self._generate(model, job))
        except CaptionError as error:
            job.result.set_exception(error)
        except DeviceError as error:
            job.result.set_exception(error)
        except Exception as error:
            job.result.set_exception(CaptionError(f"MLX failed: {first_line(error)}"))

    def _generate(self, model: Any, job: _Job) -> Generation:
        import mlx.core as mx
        from mlx_vlm.generate import generate_step

        arrays = {name: mx.array(value) for name, value in job.prepared.arrays.items()}
        ends = self._tokenizer.stopping_criteria
        ends.reset(model.config.eos_token_id)
        began = prefilled = time.perf_counter()
        tokens: list[int] = []
        finish_reason = "length"
        for token, _ in generate_step(
            arrays.pop("input_ids"),
            model,
            arrays.pop("pixel_values", None),
            arrays.pop("attention_mask", None),
            max_tokens=job.request.max_tokens,
            temperature=job.request.temperature,
            **arrays,
        ):
            if self._stopping.is_set():
                raise DeviceError("The MLX device was stopped.")
            if not tokens:
                prefilled = time.perf_counter()
            tokens.append(token)
            if ends(token):
                finish_reason = "stop"
                break
        done = time.perf_counter()
        del arrays
        mx.clear_cache()
        self.peak_memory_bytes = max(self.peak_memory_bytes, mx.get_peak_memory())
        return Generation(
            text=self._tokenizer.decode(tokens, skip_special_tokens=True).strip(),
            finish_reason=finish_reason,
            prompt_tokens=int(job.prepared.arrays["input_ids"].size),
            image_tokens=job.prepared.image_tokens,
            width=job.prepared.width,
            height=job.prepared.height,
            generated_tokens=len(tokens),
            prefill_seconds=prefilled - began,
            decode_seconds=done - prefilled,
        )

    def _fail_waiting(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            job.result.set_exception(DeviceError("The MLX device has stopped."))
            job.started.set()


def _load(directory: Path) -> tuple[Any, Any]:
    from mlx_vlm import load

    return load(str(directory), trust_remote_code=False)  # type: ignore[no-any-return]


def _wired(model: Any) -> AbstractContextManager[None]:
    """On a Mac, keep the weights wired in memory while the device works; elsewhere nothing."""
    from mlx_vlm.generate.common import generation_stream, wired_limit

    return wired_limit(model, [generation_stream])  # type: ignore[no-any-return]
