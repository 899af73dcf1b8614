"""Numbers in a checkpoint's configuration that would hang MLX, end the process or fill the memory.

Whatever else is wrong, MLX says itself when it loads the weights. Knows nothing of MLX.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioner.checkpoint.files import read_text
from captioner.errors import CheckpointError
from captioner.text import printable

# Divided by, or loops over that many: by the last part of the name, from and to.
BOUNDS = {
    "group_size": (1, 1 << 16),
    "bits": (1, 64),
    "patch_size": (1, 1024),
    "spatial_patch_size": (1, 1024),
    "temporal_patch_size": (1, 64),
    "spatial_merge_size": (1, 64),
    "merge_size": (1, 64),
    "head_dim": (1, 1 << 16),
    # the processor scales a picture up to these
    "min_pixels": (0, 1 << 26),
    "shortest_edge": (0, 1 << 26),
    "height": (1, 1 << 14),
    "width": (1, 1 << 14),
}
LAYERS = ("layers", "depth", "n_layer", "blocks", "experts")  # what is made one by one


def check_bounds(directory: Path, tensors: int) -> None:
    """Refuse a checkpoint whose numbers make no sense; `tensors` is how many its shards hold.

    Raises:
        CheckpointError: one of them is out of its bounds.
        OSError: a file cannot be read.
    """
    for name in ("config.json", "preprocessor_config.json", "processor_config.json"):
        if not (directory / name).is_file():
            continue
        for path, value in _numbers(json.loads(read_text(directory / name))):
            if bounds := _bounds(path[-1], tensors):
                _check(directory / name, ".".join(path), value, *bounds)


def _bounds(name: str, tensors: int) -> tuple[int, int] | None:
    if name in BOUNDS:
        return BOUNDS[name]
    if any(name == kind or name.endswith("_" + kind) for kind in LAYERS):
        return 0, max(tensors, 1024)  # each layer has a tensor at least
    return None


def _check(file: Path, name: str, value: float, least: int, most: int) -> None:
    if not least <= value <= most:
        raise CheckpointError(
            f"{printable(str(file))} says {printable(name)}: {value:.6g}, which is not between "
            f"{least:,} and {most:,}: this checkpoint cannot be loaded. Choose another with "
            "--model or --repo-id."
        )


def _numbers(config: Any) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number in nested objects and lists, with the names that lead to it."""
    left: list[tuple[tuple[str, ...], Any]] = [((), config)]  # no recursion: nests may be deep
    while left:
        path, value = left.pop()
        if isinstance(value, dict):
            left.extend(((*path, name), inner) for name, inner in value.items())
        elif isinstance(value, list):
            left.extend((path, inner) for inner in value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and path:
            yield path, value
