"""What a checkpoint directory holds, in a few bytes, to notice a change.

Knows nothing of what makes a checkpoint whole, or of where it came from.
"""

import hashlib
from pathlib import Path

from captioner.checkpoint.files import MAX_TEXT_BYTES

BLOCK_BYTES = 1 << 20
BLOCKS = 16  # of a weight file that are read: any training changes nearly all of its numbers


def checkpoint_fingerprint(directory: Path) -> str:
    """A hash of a checkpoint's files, wherever the directory is: `files-` and 16 hex digits.

    JSON files and chat templates count whole, weights by their size, their header and sixteen
    blocks of 1 MiB spread over them: 33 GB take a fraction of a second.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        size = path.stat().st_size
        text = path.suffix in (".json", ".jinja", ".txt", ".model")
        if text and size <= MAX_TEXT_BYTES:
            digest.update(f"{path.name}\0".encode(errors="surrogateescape"))
            digest.update(path.read_bytes())
        elif text or path.suffix == ".safetensors":
            digest.update(f"{path.name}\0{size}\0".encode(errors="surrogateescape"))
            with path.open("rb") as file:
                for block in range(BLOCKS):
                    file.seek(max(0, size - BLOCK_BYTES) * block // (BLOCKS - 1))
                    digest.update(file.read(BLOCK_BYTES))
    return f"files-{digest.hexdigest()[:16]}"
