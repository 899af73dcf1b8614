"""The device without Prefect, and where its seconds go.

    python -m benchmarks.bare CHECKPOINT TOKENS BATCH_SIZE PICTURE...

captions the pictures and prints a JSON object. Each prefill is waited for, so that its seconds are
not counted as those of the decode step that comes after it.
"""

import importlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers import PROMPT
from captioner.device.device import Device
from captioner.device.look import Look
from captioner.device.model import MlxModel
from captioner.device.rows import Request
from captioner.pictures import decoding

spent: dict[str, float] = defaultdict(float)


def main(checkpoint: Path, tokens: int, batch_size: int, pictures: list[Path]) -> dict[str, Any]:
    """Caption the pictures; what was said, and seconds by what they were spent on."""
    import mlx.core as mx

    batches = importlib.import_module("mlx_vlm.generate.ar")
    _timed(MlxModel, "prepare_each", "preparing")
    _timed(decoding, "load_image", "preparing")
    _timed(Look, "encode", "vision tower")
    prompts, stream = batches.PromptProcessingBatch, batches.generation_stream
    _timed(prompts, "prompt_step", "prefill", lambda: mx.synchronize(stream))
    _timed(prompts, "generate", "prefill")
    request = Request(PROMPT, None, tokens, 0.0)
    with Device(checkpoint, batch_size) as device:
        began = time.perf_counter()
        works = [device.begin(partial(decoding.load_image, p, 0), request) for p in pictures]
        done = [work.result() for work in works]
        seconds = time.perf_counter() - began
        figures = device.figures()
    if batch_size == 1:
        # a caption's own figure begins with its encoding
        spent["prefill"] = sum(one.prefill_seconds for one in done) - spent["vision tower"]
    spent["decode"] = figures.busy_seconds - spent["vision tower"] - spent["prefill"]
    spent["waiting"] = seconds - figures.busy_seconds
    return {
        "seconds": seconds,
        "texts": [one.text for one in done],
        "lengths": [one.generated_tokens for one in done],
        "prompt_tokens": sum(one.prompt_tokens for one in done),
        "spent": dict(spent),
        "peak_memory_bytes": figures.peak_memory_bytes,
    }


def _timed(owner: Any, name: str, what: str, then: Callable[[], None] = lambda: None) -> None:
    call = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            result = call(*args, **kwargs)
            then()
            return result
        finally:
            spent[what] += time.perf_counter() - began

    setattr(owner, name, timed)


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[4:]]
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), files)))
