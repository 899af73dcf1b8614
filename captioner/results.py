"""What a run writes: one caption file for each picture, captions.json and summary.json."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from captioner.records import Caption, DeviceFigures, LoadedModel, Outcome, Picture
from captioner.settings import Settings
from captioner.writing import cannot_write, write_json, write_json_list


@dataclass(frozen=True, slots=True)
class Times:
    """Moments of a run, by `time.perf_counter`."""

    began: float
    loaded: float  # when the model was
    now: float


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
        raise cannot_write(path, error) from error
    return path


def write_combined_files(
    outcome: Outcome,
    settings: Settings,
    model: LoadedModel | None,
    device: DeviceFigures,
    times: Times,
) -> None:
    """Write captions.json from the caption files, in scan order, then summary.json, last of all.

    Raises:
        OutputError: one of them cannot be written.
    """
    directory = settings.output_dir
    path = directory / "captions.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_json_list(path, read_caption_files(outcome.plan.pictures, directory))
        path = directory / "summary.json"
        write_json(path, summary(outcome, settings, model, device, times))
    except OSError as error:
        raise cannot_write(path, error) from error


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
    outcome: Outcome,
    settings: Settings,
    model: LoadedModel | None,
    device: DeviceFigures,
    times: Times,
) -> dict[str, Any]:
    """The content of summary.json; there is no `model` when there was nothing to do."""
    plan = outcome.plan
    done = [caption.generation for caption in outcome.captioned]
    prompt_tokens = sum(g.prompt_tokens for g in done)
    generated_tokens = sum(g.generated_tokens for g in done)
    prefill_seconds = sum(g.prefill_seconds for g in done)
    decode_seconds = sum(g.decode_seconds for g in done)
    return {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": "interrupted" if outcome.interrupted else "complete",
        "counts": {
            "found": len(plan.pictures),
            "captioned": len(outcome.captioned),
            "again": sum(1 for caption in outcome.captioned if caption.picture.again),
            "flagged": sum(1 for generation in done if generation.flags),
            "up_to_date": len(plan.up_to_date),
            "edited": len(plan.edited),
            "left": len(plan.left),
            "skipped": len(outcome.all_skipped),
            "failed": len(outcome.failures),
            "gone": len(plan.gone),
        },
        "model": _about(model) if model else None,
        "settings": settings.model_dump(mode="json"),
        "seconds": {
            "total": _rounded(times.now - times.began),
            "load": _rounded(model.seconds if model else 0.0),
            "captioning": _rounded(times.now - times.loaded),
            "prefill": _rounded(prefill_seconds),
            "decode": _rounded(decode_seconds),
            "device_busy": _rounded(device.busy_seconds),
            "device_idle": _rounded(device.idle_seconds),
        },
        "device_busy_fraction": _rounded(device.busy_fraction),
        "tokens": {
            "prompt": prompt_tokens,
            "image": sum(g.image_tokens for g in done),
            "generated": generated_tokens,
            "generated_per_busy_second": _rate(generated_tokens, device.busy_seconds),
            # as one caption sees it; in a batch several go at this rate at a time, and the first
            # token of each comes out of its prefill
            "prefill_per_second": _rate(prompt_tokens, prefill_seconds),
            "decode_per_second": _rate(generated_tokens - len(done), decode_seconds),
        },
        "peak_memory_bytes": device.peak_memory_bytes,
        "captions": [_figures(caption) for caption in outcome.captioned],
        "skipped": [{"image": s.picture.name, "reason": s.reason} for s in outcome.all_skipped],
        "failed": [{"image": f.picture.name, "reason": f.reason} for f in outcome.failures],
        "edited": plan.edited,
        "gone": [{"image": g.image, "caption_file": g.caption_file} for g in plan.gone],
    }


def _about(model: LoadedModel) -> dict[str, Any]:
    return {
        "repo_id": model.checkpoint.repo_id,
        "revision": model.checkpoint.revision,
        "directory": str(model.checkpoint.directory),
        "weight_bytes": model.checkpoint.weight_bytes,
        "batch_size": model.batch_size,
    }


def _figures(caption: Caption) -> dict[str, Any]:
    generation = caption.generation
    return {
        "image": caption.picture.name,
        "width": generation.width,
        "height": generation.height,
        "image_tokens": generation.image_tokens,
        "generated_tokens": generation.generated_tokens,
        "seconds": _rounded(generation.prefill_seconds + generation.decode_seconds),
        "finish_reason": generation.finish_reason,
        "flags": list(generation.flags),
        "attempts": caption.attempts,
        "again": caption.picture.again or None,
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds, 2) if seconds > 0 else None
