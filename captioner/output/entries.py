"""What is in a caption file: the picture, the prompt and the caption. Knows nothing of runs."""

import errno
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioner.errors import OutputError
from captioner.output.ours import NotOurs, read_ours
from captioner.records import Caption
from captioner.text import printable

KEYS = ("image", "prompt", "caption")
MAX_BYTES = 64 << 20  # no prompt and caption take as much
MAX_DEPTH = 20  # of what a person has added to one; answers are less deep
SORTED = json.JSONEncoder(sort_keys=True).encode
NOTHING = b"\0 \t\r\n"  # NULs are what a power failure leaves of a file


class NoCaptionFile(Exception):
    """What is in the place of a caption file is none; `str()` says why."""


def entry_of(caption: Caption) -> dict[str, Any]:
    """What the caption file of a caption says; its fields only where more was asked for."""
    entry: dict[str, Any] = {
        "image": caption.job.picture.key,
        "prompt": caption.prompt,
        "caption": caption.generation.text,
    }
    if caption.generation.fields is not None:
        entry["fields"] = caption.generation.fields
    return entry


def read_entry(path: Path) -> dict[str, Any] | None:
    """What a caption file says: at least image, prompt and caption; None when nothing is there.

    Raises:
        NoCaptionFile: something else is there, or nobody may read it.
        OutputError: it cannot be read, since the disk fails or the system lacks something.
    """
    try:
        data = read_ours(path, MAX_BYTES)
        entry = _read(data) if data.strip(NOTHING) else None
    except FileNotFoundError:
        return None
    except (NotOurs, PermissionError) as error:
        raise NoCaptionFile(error.strerror or "it may not be read") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NoCaptionFile("its path is too long") from None
        raise OutputError(
            f"{printable(str(path))} cannot be read: {error.strerror or error}. "
            "Mend that and run again."
        ) from error
    except json.JSONDecodeError as error:
        raise NoCaptionFile(f"it is no JSON from line {error.lineno} on") from None
    except UnicodeDecodeError:
        raise NoCaptionFile("it is no text in UTF-8") from None
    except ValueError:  # Python's bound on the digits of a whole number
        raise NoCaptionFile("it holds a number that is too long") from None
    except RecursionError:
        raise NoCaptionFile("it is nested too deeply") from None
    if entry is None:
        return None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in KEYS):
        raise NoCaptionFile("it has not image, prompt and caption")
    if _is_deeper(entry, MAX_DEPTH):
        raise NoCaptionFile("it is nested too deeply")
    return entry


def digest_of(entry: Mapping[str, Any]) -> bytes:
    """A hash of what a caption file says, whatever its layout and whatever else is in it."""
    said = [entry.get(key) for key in KEYS]
    if (fields := entry.get("fields")) is not None:
        said.append(fields)
    return hashlib.blake2b(SORTED(said).encode(), digest_size=16).digest()


def _read(data: bytes) -> Any:
    """What is in a file of JSON; what Python alone would read is refused, since it would go on into
    captions.json, which nothing else reads then."""
    return json.loads(data, parse_constant=_refuse, parse_float=_finite)


def _refuse(name: str) -> None:
    raise NoCaptionFile(f"it is no JSON: it holds {name}")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NoCaptionFile("it holds a number that is too large")
    return number


def _is_deeper(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        if not level:
            return False
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
