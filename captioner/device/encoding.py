"""Pictures on their way into the model: the vision tower, ahead of the captions where that helps.

Knows nothing of captions, queues or files. `mlx` is imported inside functions.
"""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

# Their vision tower leaves no trace in the language model: what it finds, positions included, is
# in what it returns. Others keep the positions of the latest picture in the model itself.
LEAVES_NO_TRACE = frozenset({"qwen3_vl", "qwen3_vl_moe"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the model takes: token ids, patches and whatever its processor adds.

    MLX's arrays are numpy's here, also in lists; all else is as the processor made it.
    """

    arrays: dict[str, Any]
    image_tokens: int
    width: int  # pixels, as the model sees the picture
    height: int

    @property
    def prompt_tokens(self) -> int:
        """How many tokens are prefilled, those of the picture included."""
        return int(self.arrays["input_ids"].size)


class PreparedLater:
    """A picture that is prepared by the thread that first looks at it."""

    def __init__(self, make: Callable[[], Prepared]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Prepared:
        made = self._make()
        del self._make  # and the picture with it
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt with its picture as the language model takes it, computed, in MLX arrays."""

    ids: Any
    mask: Any
    rest: dict[str, Any]  # what else the processor made
    features: Any  # mlx_vlm's InputEmbeddingsFeatures
    seconds: float  # that it took


def as_mlx(prepared: Prepared) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Token ids, pixels, attention mask and the rest, as MLX arrays."""
    arrays = {name: _in_mlx(value) for name, value in prepared.arrays.items()}
    ids, mask = arrays.pop("input_ids"), arrays.pop("attention_mask", None)
    return ids, arrays.pop("pixel_values", None), mask, arrays


def in_numpy(value: Any) -> Any:
    """The value with numpy's arrays in place of MLX's, also in lists."""
    import mlx.core as mx

    if isinstance(value, list | tuple):
        return type(value)(in_numpy(each) for each in value)
    return np.array(value) if isinstance(value, mx.array) else value


def _in_mlx(value: Any) -> Any:
    import mlx.core as mx

    if isinstance(value, list | tuple):
        return type(value)(_in_mlx(each) for each in value)
    return mx.array(value) if isinstance(value, np.ndarray) else value


def encode(model: Any, prepared: Prepared) -> Encoded:
    """Run the vision tower, on the calling thread's own generation stream, to its end."""
    import mlx.core as mx
    from mlx_vlm.generate import generation_stream

    began = time.perf_counter()
    ids, pixels, mask, rest = as_mlx(prepared)
    with mx.stream(generation_stream):
        features = model.get_input_embeddings(ids, pixels, mask=mask, **rest)
        mx.eval([value for value in features.to_dict().values() if value is not None])
    return Encoded(ids, mask, rest, features, time.perf_counter() - began)


class Encoder:
    """A thread that encodes pictures while another one generates.

    MLX works through a stream on one CPU thread, so a second stream is a second core's work, and
    the BLAS is shared for as long as both are at work. What it hands out is computed, and so
    belongs to no stream.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._closing = False
        self._thread = ThreadPoolExecutor(1, "mlx-encoder")

    def begin(self, prepared: Prepared) -> "Future[Encoded]":
        """Encode `prepared` after those that were begun before."""
        return self._thread.submit(self._encode, prepared)

    def close(self) -> None:
        """Wait for the picture that is being encoded, and end the thread with its streams."""
        import mlx.core as mx

        self._closing = True
        self._thread.submit(mx.clear_streams)
        self._thread.shutdown()

    def _encode(self, prepared: Prepared) -> Encoded:
        if self._closing:
            raise RuntimeError("The encoder is closed.")
        with blas_shared():
            return encode(self._model, prepared)


@contextmanager
def computed_in_parts(tower: Any) -> Iterator[None]:
    """While the block runs, the vision tower computes each of its blocks before it begins the next.

    MLX has ten tasks of ten operations under way, all streams together, before whoever submits more
    has to wait. A tower that is submitted whole fills them all, and a decode step of 200 small
    operations on the other stream then goes at the pace of the tower's large ones.
    """
    import mlx.core as mx
    from mlx import nn

    class Computed(nn.Module):  # type: ignore[misc]
        def __init__(self, part: Any) -> None:
            super().__init__()
            self.part = part

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            result = self.part(*args, **kwargs)
            mx.eval(result)
            return result

    blocks, mergers = tower.blocks, tower.deepstack_merger_list
    tower.blocks = [Computed(block) for block in blocks]
    tower.deepstack_merger_list = [Computed(merger) for merger in mergers]
    try:
        yield
    finally:
        tower.blocks, tower.deepstack_merger_list = blocks, mergers


@contextmanager
def cache_kept() -> Iterator[None]:
    """While the block runs, MLX's buffer cache is bounded and never cleared.

    mlx-vlm clears it after every prefill. With two threads at work that took up to 0.17 s, for 15
    MB, and Python's lock was held meanwhile.
    """
    import mlx.core as mx

    clear = mx.clear_cache
    mx.clear_cache = lambda: None
    try:
        yield
    finally:
        mx.clear_cache = clear


def works_ahead(model: Any) -> bool:
    """Whether an `Encoder` may work for `model`, and pays.

    On the CPU backend it does. A GPU shares itself out anyway, and MLX's Metal backend has crashed
    when two threads used it (https://github.com/oxiglade/mlx-rs/issues/349).
    """
    import mlx.core as mx

    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    return on_cpu and model.config.model_type in LEAVES_NO_TRACE


@contextmanager
def blas_shared() -> Iterator[None]:
    """While the block runs, OpenBLAS uses half of the cores, since two streams call it at a time.

    Only where it was preloaded in place of the BLAS that MLX's Linux build comes with, and unless
    OPENBLAS_NUM_THREADS says how many threads it may have.
    """
    symbols = ctypes.CDLL(None)
    set_threads = getattr(symbols, "openblas_set_num_threads", None)
    if set_threads is None or "OPENBLAS_NUM_THREADS" in os.environ:
        yield
        return
    before = symbols.openblas_get_num_threads()
    set_threads(max(1, before // 2))
    try:
        yield
    finally:
        set_threads(before)
