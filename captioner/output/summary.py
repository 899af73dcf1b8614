"""summary.json: what a run did, in figures. Knows nothing of where it is written."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from captioner.records import Caption, LoadedModel
from captioner.run import Run


def summary(run: Run) -> dict[str, Any]:
    """The content of summary.json; its model is null when there was nothing to do."""
    return {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": "interrupted" if run.interrupted else "complete",
        "counts": _counts(run),
        "model": _about(run.model) if run.model else None,
        "settings": run.settings.model_dump(mode="json"),
        "seconds": _seconds(run),
        "device_busy_fraction": _rounded(run.device.busy_fraction),
        "tokens": _tokens(run),
        "peak_memory_bytes": run.device.peak_memory_bytes,
        "captions": [_figures(caption) for caption in run.captioned],
        "skipped": [{"image": s.picture.key, "reason": s.reason} for s in run.all_skipped],
        "failed": [{"image": f.job.picture.key, "reason": f.reason} for f in run.failures],
        "edited": list(run.plan.edited),
        "unreadable": [
            {"image": u.image, "caption_file": u.caption_file, "reason": u.reason}
            for u in run.plan.unreadable
        ],
        "unread": [{"folder": folder, "reason": why} for folder, why in _unread(run)],
        "gone": [{"image": g.image, "caption_file": g.caption_file} for g in run.plan.gone],
    }


def _counts(run: Run) -> dict[str, int]:
    plan = run.plan
    return {
        "found": len(plan.pictures),
        "captioned": len(run.captioned),
        "again": sum(1 for caption in run.captioned if caption.job.reason),
        "flagged": sum(1 for caption in run.captioned if caption.generation.flags),
        "up_to_date": len(plan.up_to_date),
        "edited": len(plan.edited),
        "left": len(plan.left),
        "later": len(plan.later),
        "skipped": len(run.all_skipped),
        "failed": len(run.failures),
        "unreadable": len(plan.unreadable),
        "gone": len(plan.gone),
        "unasked": len(plan.unasked),
    }


def _unread(run: Run) -> Iterable[tuple[str, str]]:
    return run.scan.unread if run.scan else ()


def _seconds(run: Run) -> dict[str, float | None]:
    done = [caption.generation for caption in run.captioned]
    return {
        "total": _rounded(run.seconds),
        "load": _rounded(run.model.seconds if run.model else 0.0),
        "captioning": _rounded(run.captioning_seconds),
        "prefill": _rounded(sum(g.prefill_seconds for g in done)),
        "decode": _rounded(sum(g.decode_seconds for g in done)),
        "device_busy": _rounded(run.device.busy_seconds),
        "device_idle": _rounded(run.device.idle_seconds),
    }


def _tokens(run: Run) -> dict[str, float | None]:
    done = [caption.generation for caption in run.captioned]
    prompt = sum(g.prompt_tokens for g in done)
    generated = sum(g.generated_tokens for g in done)
    return {
        "prompt": prompt,
        "image": sum(g.image_tokens for g in done),
        "generated": generated,
        "generated_per_busy_second": _rate(generated, run.device.busy_seconds),
        # as one caption sees it; in a batch several go at this rate at a time, and the first
        # token of each comes out of its prefill
        "prefill_per_second": _rate(prompt, sum(g.prefill_seconds for g in done)),
        "decode_per_second": _rate(generated - len(done), sum(g.decode_seconds for g in done)),
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
        "image": caption.job.picture.key,
        "width": generation.width,
        "height": generation.height,
        "image_tokens": generation.image_tokens,
        "generated_tokens": generation.generated_tokens,
        "seconds": _rounded(generation.seconds),
        "finish_reason": generation.finish_reason,
        "flags": list(generation.flags),
        "attempts": generation.attempts,
        "again": caption.job.reason,
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds, 2) if seconds > 0 else None
