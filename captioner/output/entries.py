"""What is in a caption file: the picture, the prompt and the caption. Knows nothing of runs."""

import hashlib
import json
from pathlib import Path
from typing import Any

from captioner.records import Caption


def entry_of(caption: Caption) -> dict[str, str]:
    """What the caption file of a caption says."""
    return {
        "image": caption.job.picture.key,
        "prompt": caption.prompt,
        "caption": caption.generation.text,
    }


def read_entry(path: Path) -> dict[str, Any] | None:
    """What a caption file says: None when there is none, nothing when it is not one."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def entry_digest(image: object, prompt: object, caption: object) -> bytes:
    """A hash of what a caption file says, whatever its layout."""
    text = json.dumps([image, prompt, caption])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
