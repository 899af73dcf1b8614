"""What a run tells a person who looks at it in a browser: its name, its tags, and a table of its
pictures.

Knows nothing of Prefect but how its pages treat a text.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from captioner.output.folder import OutputFolder
from captioner.pages.escaping import shown
from captioner.records import Caption, Picture
from captioner.run import Run
from captioner.settings import Settings

TABLE_ROWS = 300
NAME_CHARACTERS = 100
WORDS_CHARACTERS = 300  # of a caption or a reason

STATES = FAILED, SKIPPED, FLAGGED, CAPTIONED = "Failed", "Skipped", "Flagged", "Captioned"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one picture."""

    picture: Picture
    state: str
    reason: str = ""  # why there is no caption, or the caption's flags
    tokens: int | None = None
    seconds: float | None = None


def run_name(input_dir: Path, pictures: int | None) -> str:
    """For example `input: 31 pictures`; `input` when they are not counted yet."""
    name = _place(input_dir)
    if pictures is None:
        return name
    return f"{name}: {pictures:,} picture{'' if pictures == 1 else 's'}"


def run_tags(settings: Settings) -> list[str]:
    """For example `model: flowcharts-3m-8bit` and `output: captions`."""
    model = settings.model or Path(settings.repo_id)
    return [f"model: {_place(model)}", f"output: {_place(settings.output_dir)}"]


def _place(path: Path) -> str:
    """The last part of a path."""
    return shown(path.name or path.resolve().name or str(path), NAME_CHARACTERS)


def artifact_key(kind: str, settings: Settings) -> str:
    """A key that all runs over these two directories share, of lowercase letters, digits and
    dashes: their artifacts are versions of one."""
    places = f"{settings.input_dir.resolve()}\n{settings.output_dir.resolve()}"
    digest = hashlib.sha256(places.encode(errors="surrogateescape")).hexdigest()
    name = re.sub("[^a-z0-9]+", "-", settings.input_dir.resolve().name.lower())[:40]
    return "-".join(part for part in (kind, name.strip("-"), digest[:8]) if part)


def rows(run: Run) -> list[Row]:
    """A row for each picture that the run was done with: those that failed, then those that were
    skipped, then those that are flagged, then the rest; each in the order of the scan."""
    places = {picture.key: place for place, picture in enumerate(run.plan.pictures)}
    found = [
        *(Row(f.job.picture, FAILED, f.reason) for f in run.failures),
        *(Row(s.picture, SKIPPED, s.reason) for s in run.all_skipped),
        *map(_captioned, run.captioned),
    ]
    return sorted(
        found, key=lambda row: (STATES.index(row.state), places.get(row.picture.key, len(places)))
    )


def table(run: Run, output: OutputFolder) -> tuple[list[dict[str, object]], str]:
    """The rows of the table, the troubled ones first, and a sentence that says what is left out.

    Texts stand in a list of one: the old UI takes a bare text for Markdown, the new one does not,
    and a list is plain text for both.
    """
    every = rows(run)
    chosen = every[:TABLE_ROWS]
    entries: list[dict[str, object]] = [
        {
            "picture": [shown(row.picture.key, NAME_CHARACTERS)],
            "state": row.state,
            "tokens": row.tokens,
            "seconds": row.seconds,
            "caption": [shown(words(row, run, output), WORDS_CHARACTERS)],
        }
        for row in chosen
    ]
    left_out = len(every) - len(chosen)
    if not left_out:
        return entries, run.counts()
    return entries, (
        f"{run.counts()}. {left_out:,} more pictures are left out here: those that failed, "
        "were skipped or flagged come first. captions.json has all captions."
    )


def words(row: Row, run: Run, output: OutputFolder) -> str:
    """The reason, or what the caption file says; captions are not kept in memory."""
    if row.state in (FAILED, SKIPPED):
        return row.reason
    entries = output.entries([row.picture.key], run.plan)
    caption = next((str(entry.get("caption", "")) for entry in entries), "")
    return f"({row.reason}) {caption}" if row.reason else caption


def _captioned(caption: Caption) -> Row:
    generation = caption.generation
    return Row(
        caption.job.picture,
        FLAGGED if generation.flags else CAPTIONED,
        ", ".join(generation.flags),
        generation.generated_tokens,
        round(generation.seconds, 2),
    )
