"""What MLX raises when it is not the picture's fault: a GPU that refuses everything, too little
memory, a temporary folder in which nothing can be compiled.

On a CPU, MLX writes C++ and has it compiled the first time that a kernel is needed. It knows those
errors by their texts alone; MLX has no types for them.
"""

import os
from pathlib import Path

from captioner.text import printable

TEMPORARY = ("TMPDIR", "TMP", "TEMP", "TEMPDIR")  # as C++ looks for the folder
OF_COMPILING = ("[Compile::", "Could not load C++ shared library", "temp_directory_path")
FULL = ("No space left on device", "Disk quota exceeded")
LONGEST_REASON = 200


def is_dead(error: BaseException) -> bool:
    """Whether the GPU refuses all that this process asks of it, as Metal does after a fault."""
    return "SubmissionsIgnored" in str(error) or "excessive GPU errors" in str(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether MLX or the system refused to give memory."""
    text = str(error).lower()
    if cannot_compile(error):  # and quotes a compiler's words, in which anything may stand
        return False
    return isinstance(error, MemoryError) or "alloc" in text or "memory" in text


def cannot_compile(error: BaseException) -> str:
    """The sentence about a temporary folder in which MLX cannot compile; empty for other errors."""
    text = str(error)
    if not text.startswith(OF_COMPILING) and OF_COMPILING[-1] not in text:
        return ""
    named = (os.environ.get(name) for name in TEMPORARY)
    folder = next(filter(None, named), "/tmp")
    return (
        f"MLX cannot compile in the temporary folder {printable(folder)}, since "
        f"{_why(text, folder)}: free space there, or name another folder with TMPDIR."
    )


def _why(text: str, folder: str) -> str:
    if any(full in text for full in FULL):
        return "it is full"
    if not Path(folder).is_dir():
        return "there is no such folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "it cannot be written to"
    lines = text.rpartition("the output is: ")[2].splitlines()
    lines = [line for line in lines if "error" in line] or lines
    return f"the compiler fails ({printable(lines[-1])[-LONGEST_REASON:]})"
