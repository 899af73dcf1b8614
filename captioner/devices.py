"""The devices of this process, by the checkpoint that they loaded.

Tasks pass small references around, since a model must never be a task's argument: Prefect walks
and hashes those. The reference finds the device here.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from captioner.checkpoint.memory import share_arenas
from captioner.device import Device
from captioner.errors import DeviceError
from captioner.records import Checkpoint, LoadedModel

_devices: dict[LoadedModel, Device] = {}
_lock = threading.Lock()


def load(checkpoint: Checkpoint, batch_size: int | Literal["auto"], max_tokens: int) -> LoadedModel:
    """Load `checkpoint` on a device of its own; see `released`.

    A `batch_size` of "auto" is chosen by the memory that is left for captions of `max_tokens`.

    Raises:
        CheckpointError: MLX cannot load it.
    """
    share_arenas()
    device = Device(checkpoint.directory, batch_size, max_tokens)
    model = LoadedModel(checkpoint, device.batch_size, device.load_seconds)
    with _lock:
        _devices[model] = device
    return model


def device_of(model: LoadedModel) -> Device:
    """The device that loaded `model`.

    Raises:
        DeviceError: it was released, or loaded in another process.
    """
    with _lock:
        device = _devices.get(model)
    if device is None:
        raise DeviceError("The model is not loaded in this process.")
    return device


@contextmanager
def released(model: LoadedModel) -> Iterator[None]:
    """Stop the device that loaded `model` and free its memory when the block ends."""
    try:
        yield
    finally:
        with _lock:
            device = _devices.pop(model, None)
        if device is not None:
            device.stop()
