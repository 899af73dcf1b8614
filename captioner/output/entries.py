"""What is in a caption file: the picture, the prompt and the caption. Knows nothing of runs."""

import hashlib
import json
from pathlib import Path
from typing import Any

from captioner.output.ours import read_ours
from captioner.records import Caption

MAX_BYTES = 64 << 20  # no prompt and caption take as much
MAX_DEPTH = 20  # of what a person has added to one
NOTHING = b"\0 \t\r\n"  # NULs are what a power failure leaves of a file


class NoCaptionFile(Exception):
    """What is in the place of a caption file is none; `str()` says why."""


def entry_of(caption: Caption) -> dict[str, str]:
    """What the caption file of a caption says."""
    return {
        "image": caption.job.picture.key,
        "prompt": caption.prompt,
        "caption": caption.generation.text,
    }


def read_entry(path: Path) -> dict[str, Any] | None:
    """What a caption file says: at least image, prompt and caption; None when nothing is there.

    Raises:
        NoCaptionFile: something else is there, or it cannot be read.
    """
    try:
        data = read_ours(path, MAX_BYTES)
        entry = json.loads(data) if data.strip(NOTHING) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NoCaptionFile(error.strerror or str(error)) from None
    except json.JSONDecodeError as error:
        raise NoCaptionFile(f"it is no JSON from line {error.lineno} on") from None
    except ValueError:
        raise NoCaptionFile("it is no text in UTF-8") from None
    except RecursionError:
        raise NoCaptionFile("it is nested too deeply") from None
    if entry is None:
        return None
    texts = (
        [entry.get(key) for key in ("image", "prompt", "caption")]
        if isinstance(entry, dict)
        else []
    )
    if not texts or not all(isinstance(text, str) for text in texts):
        raise NoCaptionFile("it has not image, prompt and caption")
    if _is_deeper(entry, MAX_DEPTH):
        raise NoCaptionFile("it is nested too deeply")
    return dict(entry)


def entry_digest(image: object, prompt: object, caption: object) -> bytes:
    """A hash of what a caption file says, whatever its layout."""
    text = json.dumps([image, prompt, caption])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _is_deeper(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (
                outer.values()
                if isinstance(outer, dict)
                else outer
                if isinstance(outer, list)
                else ()
            )
        ]
    return bool(level)
