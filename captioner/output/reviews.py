"""What a person thought of captions: `reviews.jsonl` in the output folder, and edits by hand.

One JSON object a line, only ever appended; the last line of a picture counts, for as long as its
caption file says what it said then. Knows nothing of the page that asks the person.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from captioner.errors import CaptionerError, OutputError
from captioner.output.atomic import cannot_write, json_text, write_json
from captioner.output.entries import NoCaptionFile, digest_of, read_entry
from captioner.output.lines import Lines
from captioner.output.mirror import path_in
from captioner.output.ours import NotOurs
from captioner.text import printable

REVIEWS, OPENING = "reviews.jsonl", b'{"at": "'  # of every line
ACCEPTED, AGAIN, OPEN = "accepted", "again", "open"  # OPEN takes one of the others back
VERDICTS = (ACCEPTED, AGAIN, OPEN)


class Changed(CaptionerError):
    """A caption file does not say any more what the person saw."""

    def __init__(self, caption: str, digest: str) -> None:
        super().__init__("The caption was changed meanwhile.")
        self.caption = caption  # what it says now
        self.digest = digest


@dataclass(frozen=True, slots=True)
class Review:
    """What was said of one caption."""

    verdict: str  # of VERDICTS
    digest: str  # of what the caption file said, in hexadecimal


def read_reviews(directory: Path) -> dict[str, Review]:
    """The last review of each picture, by the picture's key; lines that are none do not count.

    Raises:
        OutputError: the file is there and cannot be read.
    """
    latest: dict[str, Review] = {}
    path = directory / REVIEWS
    try:
        for line in Lines(path, OPENING).read():
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                said = json.loads(line)
                if said["verdict"] in VERDICTS:
                    latest[str(said["image"])] = Review(said["verdict"], str(said["digest"]))
    except OSError as error:
        shown = printable(str(path))
        raise OutputError(
            f"{shown} cannot be read ({error.strerror or error}): move it away."
        ) from error
    return latest


def add_review(directory: Path, image: str, review: Review) -> None:
    """Append a review.

    Raises:
        OutputError: it cannot be written.
    """
    path = directory / REVIEWS
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"at": now, "image": image, "verdict": review.verdict, "digest": review.digest}
    try:
        Lines(path, OPENING).append(json_text(line), sync=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def edit(directory: Path, file: Path, before: str, caption: str) -> str:
    """Write another caption into a caption file, as a hand would have; the digest of it.

    Raises:
        Changed: the file does not say any more what had the digest `before`.
        OutputError: it cannot be written.
    """
    path = directory / file
    try:
        entry = read_entry(path_in(directory, file)) or {}
    except (NoCaptionFile, NotOurs):
        entry = {}
    if (digest := digest_of(entry).hex()) != before:
        raise Changed(str(entry.get("caption") or ""), digest)
    entry |= {"caption": caption}
    try:
        write_json(path, entry)
    except OSError as error:
        raise cannot_write(path, error) from error
    return digest_of(entry).hex()
