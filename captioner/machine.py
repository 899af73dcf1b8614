"""The memory of this machine, and whether a checkpoint fits into it. Knows nothing of MLX."""

import os
import sys

from captioner.errors import CheckpointError

SMALLER = (
    "lmstudio-community/Qwen3-VL-8B-Instruct-MLX-4bit",
    "lmstudio-community/Qwen3-VL-4B-Instruct-MLX-4bit",
)
TIGHT = 0.75  # macOS lets the GPU use about this much of the unified memory


def memory_bytes() -> int:
    """The physical memory of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(weight_bytes: int, name: str) -> None:
    """Refuse weights that cannot fit, before they are downloaded or loaded.

    Raises:
        CheckpointError: they need more memory than a model may take on this machine.
    """
    total = memory_bytes()
    usable = total * TIGHT if sys.platform == "darwin" else total
    if weight_bytes > usable:
        raise CheckpointError(
            f"{name} needs {gigabytes(weight_bytes)} for its weights alone, and this machine has "
            f"{gigabytes(total)} of memory. Try a smaller model: --repo-id {SMALLER[0]} "
            f"or --repo-id {SMALLER[1]}."
        )


def gigabytes(size: float) -> str:
    """Bytes as text, such as `33.5 GB` (10^9 bytes), or in MB below one GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
