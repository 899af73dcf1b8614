"""What a run tells a person who looks at it in a browser: its name, and a table of its pictures.

Knows nothing of Prefect but how its pages treat a text.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from captioner.escaping import shown
from captioner.records import Caption, Outcome, Picture
from captioner.results import read_caption_files
from captioner.settings import Settings

TABLE_ROWS = 300
NAME_CHARACTERS = 100
WORDS_CHARACTERS = 300  # of a caption or a reason

FAILED, SKIPPED, FLAGGED, CAPTIONED = "Failed", "Skipped", "Flagged", "Captioned"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one picture."""

    picture: Picture
    state: str
    reason: str = ""  # why there is no caption, or the caption's flags
    tokens: int | None = None
    seconds: float | None = None


def run_name(input_dir: Path, pictures: int) -> str:
    """For example `input: 31 pictures`."""
    name = input_dir.name or input_dir.resolve().name or str(input_dir)
    return f"{shown(name, NAME_CHARACTERS)}: {pictures:,} picture{'' if pictures == 1 else 's'}"


def artifact_key(kind: str, settings: Settings) -> str:
    """A key that all runs over these two directories share, of lowercase letters, digits and
    dashes: their artifacts are versions of one."""
    places = f"{settings.input_dir.resolve()}\n{settings.output_dir.resolve()}"
    digest = hashlib.sha256(places.encode(errors="surrogateescape")).hexdigest()
    name = re.sub("[^a-z0-9]+", "-", settings.input_dir.resolve().name.lower())[:40]
    return "-".join(part for part in (kind, name.strip("-"), digest[:8]) if part)


def rows(outcome: Outcome) -> list[Row]:
    """A row for each picture that the run was done with: the troubled ones first."""
    return [
        *(Row(f.picture, FAILED, f.reason) for f in outcome.failures),
        *(Row(s.picture, SKIPPED, s.reason) for s in outcome.all_skipped),
        *sorted(map(_captioned, outcome.captioned), key=lambda row: row.state != FLAGGED),
    ]


def table(outcome: Outcome, settings: Settings) -> tuple[list[dict[str, object]], str]:
    """The rows of the table in scan order, and a sentence that says what is left out.

    Texts stand in a list of one: the old UI takes a bare text for Markdown, the new one does not,
    and a list is plain text for both.
    """
    every = rows(outcome)
    order = {picture.name: place for place, picture in enumerate(outcome.plan.pictures)}
    chosen = sorted(every[:TABLE_ROWS], key=lambda row: order.get(row.picture.name, len(order)))
    entries: list[dict[str, object]] = [
        {
            "picture": [shown(row.picture.name, NAME_CHARACTERS)],
            "state": row.state,
            "tokens": row.tokens,
            "seconds": row.seconds,
            "caption": [shown(words(row, settings), WORDS_CHARACTERS)],
        }
        for row in chosen
    ]
    left_out = len(every) - len(chosen)
    if not left_out:
        return entries, outcome.counts()
    return entries, (
        f"{outcome.counts()}. {left_out:,} more pictures are left out here: those that failed, "
        "were skipped or flagged come first. captions.json has all captions."
    )


def words(row: Row, settings: Settings) -> str:
    """The reason, or what the caption file says; captions are not kept in memory."""
    if row.state in (FAILED, SKIPPED):
        return row.reason
    files = read_caption_files([row.picture], settings.output_dir)
    caption = next((str(entry.get("caption", "")) for entry in files), "")
    return f"({row.reason}) {caption}" if row.reason else caption


def _captioned(caption: Caption) -> Row:
    generation = caption.generation
    return Row(
        caption.picture,
        FLAGGED if generation.flags else CAPTIONED,
        ", ".join(generation.flags),
        generation.generated_tokens,
        round(generation.prefill_seconds + generation.decode_seconds, 2),
    )
