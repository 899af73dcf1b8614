"""What a line of the provenance says, for whoever reads it. Knows nothing of files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from captioner.output.entries import digest_of
from captioner.output.mirror import is_inside
from captioner.pictures.names import RESERVED
from captioner.records import Cost, Recipe, Stamp
from captioner.settings import DEFAULTS, RECIPE

VERSION = 1  # of the format
BEFORE = {name: getattr(DEFAULTS, name) for name in RECIPE}  # there was such a setting


@dataclass(frozen=True, slots=True)
class Made:
    """What the file says of one picture: its caption, or why there is none."""

    image: str
    source: Stamp
    caption_file: str = ""
    entry_digest: bytes = b""  # of what the caption file was written with
    earlier: frozenset[bytes] = frozenset()  # the same of the captions that it had before
    at: float = 0.0  # when the line of the caption was written, in seconds since 1970
    recipe: Recipe | None = None  # None when there never was a caption
    flagged: bool = False
    skipped: str = ""  # the reason; empty when it was captioned
    program: str = ""  # the version that said so
    cost: Cost | None = None  # of its caption; None when the line does not tell
    by_a_shard: bool = False  # whose lines are not merged yet


def understood(line: dict[str, Any], latest: Callable[[str], Made | None]) -> Made:
    """What the provenance says of a picture from this line on; `latest` gives what it said before
    of one, by its key.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OverflowError: it is no line of ours.
    """
    if line["version"] != VERSION:
        raise ValueError("another version of the format")
    image, result = str(line["image"]), line["result"]
    source = Stamp(int(line["image_bytes"]), int(line["image_mtime_ns"]), str(line["image_sha256"]))
    before = latest(image)
    if result == "touched":
        if before is None:
            raise LookupError("nothing was said of it")
        return replace(before, source=source)
    before = before or Made(image, source)
    if result == "skipped":  # its caption may still be there
        return replace(
            before, source=source, skipped=str(line["reason"]), program=str(line["program"])
        )
    if result != "captioned":
        raise ValueError("another kind of line")
    file = str(line["caption_file"])
    if not _is_caption_file(file):
        raise ValueError("a file somewhere else")
    return Made(
        image,
        source,
        file,
        digest_of_line(line),
        before.earlier | {before.entry_digest} if before.entry_digest else before.earlier,
        datetime.fromisoformat(line["at"]).timestamp(),
        Recipe(
            # a setting that is newer than the line had its default
            tuple(hashable(line.get(name, default)) for name, default in BEFORE.items()),
            line["repo_id"],
            str(line["revision"]),
            line.get("finish_reason") == "stop",
        ),
        bool(line["flags"]),
        program=str(line["program"]),
        cost=_cost(line),
    )


def _is_caption_file(name: str) -> bool:
    return is_inside(name) and name.endswith(".json") and name.casefold() not in RESERVED


def _cost(line: dict[str, Any]) -> Cost | None:
    """What the caption of the line cost; None when that makes no sense. Nothing depends on it."""
    figures = [line.get("image_tokens"), line.get("seconds"), line.get("batch_size", 1)]
    numbers = [n for n in figures if isinstance(n, (int, float)) and 0 <= n < 1e9]
    if len(numbers) < len(figures) or numbers[2] < 1:
        return None
    return Cost(int(numbers[0]), float(numbers[1]), int(numbers[2]))


def digest_of_line(line: Mapping[str, Any]) -> bytes:
    """A hash of what a caption file says that was written with the line.

    Raises:
        KeyError: it is no line of a caption.
    """
    entry = {"image": line["image"], "prompt": line["user_prompt"], "caption": line["caption"]}
    return digest_of(entry | {"fields": line.get("fields")})


def hashable(value: object) -> object:
    """The value of a setting as settings have it: JSON knows no tuples."""
    return tuple(value) if isinstance(value, list) else value
