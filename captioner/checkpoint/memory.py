"""The memory of this machine, and whether a checkpoint fits into it. Knows nothing of MLX."""

import ctypes
import os
import sys

from captioner.errors import CheckpointError
from captioner.text import gigabytes

SMALLER = (
    "lmstudio-community/Qwen3-VL-8B-Instruct-MLX-4bit",
    "lmstudio-community/Qwen3-VL-4B-Instruct-MLX-4bit",
)
M_ARENA_MAX, ARENAS = -8, 2  # glibc's malloc.h; its own choice is eight a core
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


def share_arenas() -> None:
    """On Linux, let all threads get their memory from the same two pools (glibc's arenas).

    With a pool for each of the threads that decode pictures in turn, what one has freed is of no
    use to the next, and the process grows by hundreds of megabytes. `MALLOC_ARENA_MAX` prevails.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # musl has none
        mallopt(M_ARENA_MAX, ARENAS)
