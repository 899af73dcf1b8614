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


def memory_bytes() -> int:
    """The physical memory of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(weight_bytes: int, name: str, usable: int | None = None) -> None:
    """Refuse weights that cannot fit, before they are downloaded or loaded.

    `usable` is what a model may take of the memory, in bytes: by itself all of it.

    Raises:
        CheckpointError: they need more than that.
    """
    total = memory_bytes()
    usable = usable or total
    if weight_bytes <= usable:
        return
    has = f"this machine has {gigabytes(total)} of memory"
    if sys.platform != "darwin" and usable != total:
        has = f"this machine's GPU has {gigabytes(usable)}"  # a memory of its own
    elif usable < total:
        has += (
            f", of which its GPU may use {gigabytes(usable)} (docs/mac.md says how to raise that)"
        )
    raise CheckpointError(
        f"{name} needs {gigabytes(weight_bytes)} for its weights alone, and {has}. "
        f"Try a smaller model: --repo-id {SMALLER[0]} or --repo-id {SMALLER[1]}."
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
