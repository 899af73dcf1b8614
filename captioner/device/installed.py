"""Whether what captions pictures is installed. Knows nothing of checkpoints."""

import importlib
import importlib.util

from captioner.errors import CheckpointError, first_line


def require_mlx() -> None:
    """Raise unless `mlx-vlm` is installed, and MLX with what it computes with.

    Raises:
        CheckpointError: one of them is missing.
    """
    try:
        found = importlib.util.find_spec("mlx_vlm") is not None
    except (ImportError, ValueError):  # something hides or blocks it
        found = False
    if not found:
        raise CheckpointError(
            "mlx-vlm is not installed, and the multimodal checkpoints need its vision helpers: "
            "install it with `pip install mlx-vlm`."
        )
    try:
        importlib.import_module("mlx.core")
    except ImportError as error:  # on Linux its library is a package of its own
        raise CheckpointError(
            f"MLX cannot be loaded ({first_line(error)}): install it again in a new environment, "
            "on Linux with `pip install --constraint constraints.txt --editable '.[cpu]'`, or with "
            "'.[cuda]' for an NVIDIA GPU (README.md)."
        ) from error
