"""What a run tells a person who looks at it in a browser: its name, its tags, and a table of its
pictures.

Knows nothing of Prefect but how its pages treat a text.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from captioner.output.folder import OutputFolder
from captioner.pages.answers import in_a_line
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


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be read of one picture; captions are not kept in memory."""

    words: str  # the reason, or what the caption file says
    fields: str = ""  # the same of its fields, in a line

    @classmethod
    def of(cls, row: Row, run: Run, output: OutputFolder) -> "Said":
        """Of a picture that the run was done with."""
        if row.state in (FAILED, SKIPPED):
            return cls(row.reason)
        entry = next(iter(output.entries([row.picture.key], run.plan)), {})
        caption, fields = str(entry.get("caption", "")), entry.get("fields")
        words = f"({row.reason}) {caption}" if row.reason else caption
        return cls(words, in_a_line(fields, caption) if isinstance(fields, dict) else "")


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
    said = [Said.of(row, run, output) for row in chosen]
    entries: list[dict[str, object]] = [
        {
            "picture": [shown(row.picture.key, NAME_CHARACTERS)],
            "state": row.state,
            "tokens": row.tokens,
            "seconds": row.seconds,
            "caption": [shown(of_it.words, WORDS_CHARACTERS)],
        }
        for row, of_it in zip(chosen, said, strict=True)
    ]
    if any(of_it.fields for of_it in said):  # a table has one set of columns
        for entry, of_it in zip(entries, said, strict=True):
            entry["fields"] = [shown(of_it.fields, WORDS_CHARACTERS)]
    left_out = len(every) - len(chosen)
    if not left_out:
        return entries, run.counts()
    return entries, (
        f"{run.counts()}. {left_out:,} more pictures are left out here: those that failed, "
        "were skipped or flagged come first. captions.json has all captions."
    )


def _captioned(caption: Caption) -> Row:
    generation = caption.generation
    return Row(
        caption.job.picture,
        FLAGGED if generation.flags else CAPTIONED,
        generation.flags_in_words,
        generation.generated_tokens,
        round(generation.seconds, 2),
    )
