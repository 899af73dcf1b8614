"""What a run writes: one caption file for each picture, captions.json and summary.json."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from captioner.errors import OutputError
from captioner.records import Caption, LoadedModel, Outcome, Picture, printable
from captioner.settings import Settings
from captioner.writing import write_json, write_json_list


def save_caption_file(caption: Caption, directory: Path) -> Path:
    """Write the caption file of one picture: its name, the prompt and the caption.

    Raises:
        OutputError: it cannot be written; a file of an earlier run is as it was.
    """
    path = directory / caption.picture.caption_file
    entry = {
        "image": caption.picture.name,
        "prompt": caption.prompt,
        "caption": caption.generation.text,
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, entry)
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    return path


def write_combined_files(
    outcome: Outcome, settings: Settings, model: LoadedModel, seconds: float, peak_memory: int
) -> Path:
    """Write captions.json from the caption files, in scan order, then summary.json, last of all.

    Raises:
        OutputError: one of them cannot be written.
    """
    directory = settings.output_dir
    path = directory / "captions.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_json_list(path, read_caption_files(outcome.pictures, directory))
        path = directory / "summary.json"
        write_json(path, summary(outcome, settings, model, seconds, peak_memory))
    except OSError as error:
        raise OutputError(_cannot_write(path, error)) from error
    return path


def read_caption_files(pictures: Iterable[Picture], directory: Path) -> Iterator[dict[str, str]]:
    """The caption files of `pictures` that are there and are theirs, in their order."""
    for picture in pictures:
        try:
            entry = json.loads((directory / picture.caption_file).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(entry, dict) and entry.get("image") == picture.name:
            yield entry


def summary(
    outcome: Outcome, settings: Settings, model: LoadedModel, seconds: float, peak_memory: int
) -> dict[str, Any]:
    """The content of summary.json."""
    total = outcome.totals
    return {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": "interrupted" if outcome.interrupted else "complete",
        "counts": {
            "found": len(outcome.pictures),
            "captioned": outcome.captioned,
            "skipped": len(outcome.skipped),
            "failed": len(outcome.failures),
        },
        "model": {
            "repo_id": model.checkpoint.repo_id,
            "revision": model.checkpoint.revision,
            "directory": str(model.checkpoint.directory),
            "weight_bytes": model.checkpoint.weight_bytes,
        },
        "settings": settings.model_dump(mode="json"),
        "seconds": {
            "total": round(seconds, 3),
            "load": round(model.seconds, 3),
            "prefill": round(total.prefill_seconds, 3),
            "decode": round(total.decode_seconds, 3),
        },
        "tokens": {
            "prompt": total.prompt_tokens,
            "image": total.image_tokens,
            "generated": total.generated_tokens,
            "prefill_per_second": _rate(total.prompt_tokens, total.prefill_seconds),
            "decode_per_second": _rate(
                total.generated_tokens - outcome.captioned, total.decode_seconds
            ),
        },
        "peak_memory_bytes": peak_memory,
        "skipped": [{"image": s.picture.name, "reason": s.reason} for s in outcome.skipped],
        "failed": [{"image": f.picture.name, "reason": f.reason} for f in outcome.failures],
    }


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds, 2) if seconds > 0 else None


def _cannot_write(path: Path, error: OSError) -> str:
    return (
        f"{printable(str(path))} cannot be written: {error.strerror or error}. "
        "The captions saved so far are safe; mend that and run again."
    )
