"""How far prefill and decode are from what this machine can do, measured in one process.

    python -m benchmarks.limits CHECKPOINT PICTURE...

Decode has to read all weights of the language model for every step, so its limit is the memory's
bandwidth; prefill is matrix products, so its limit is their rate. Prints a JSON object.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.environment import ROOT, measured, this_machine
from benchmarks.peers import PROMPT
from captioner.device.encoding import Prepared
from captioner.device.model import MlxModel
from captioner.device.rows import Request, Row, Rows

COPIED_FLOATS = 1 << 27  # 512 MB, far beyond any cache
MATVEC_SHAPE = (16_384, 4_096)  # 256 MB
MATMUL_SIDE = 2_048
BATCH = 8
STEPS = 24  # timed decode steps


def measure(checkpoint: Path, pictures: list[Path]) -> dict[str, float]:
    """The figures of `main`, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.limits", str(checkpoint), *map(str, pictures)],
        env=measured(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(checkpoint: Path, pictures: list[Path]) -> dict[str, float]:
    """Bandwidth, matrix rate, and what prefill and decode make of them."""
    import mlx.core as mx

    figures = {
        "copy_read_gb_per_s": _copy_rate() / 1e9,
        "matvec_gb_per_s": _matvec_rate(mx) / 1e9,
        "matmul_gflop_per_s": _matmul_rate(mx) / 1e9,
    }
    model = MlxModel(checkpoint)
    request = Request(PROMPT, None, BATCH * STEPS, 0.0)
    prepared = [model.prepare(Image.open(path).convert("RGB"), request) for path in pictures]
    network: Any = model._model
    step_bytes = _decode_bytes(network)
    prefill, one = _timed(model, model.rows(1), prepared[:1], request)
    operations = _prefill_operations(network, prepared[0])
    _, eight = _timed(model, model.rows(BATCH), (prepared * BATCH)[:BATCH], request)
    return figures | {
        "decode_step_bytes": step_bytes,
        "decode_step_ms": one * 1e3,
        "decode_gb_per_s": step_bytes / one / 1e9,
        "batched_decode_step_ms": eight * 1e3,
        "batched_decode_gb_per_s": step_bytes / eight / 1e9,
        "prefill_tokens": prepared[0].prompt_tokens,
        "prefill_ms": prefill * 1e3,
        "prefill_gflop_per_s": operations / prefill / 1e9,
    }


def _timed(
    model: MlxModel, rows: Rows, prepared: list[Prepared], request: Request
) -> tuple[float, float]:
    """Seconds of the fastest prefill of the first picture, and of a decode step of all."""
    fastest = float("inf")
    for _ in range(3 if len(prepared) == 1 else 0):
        short = Request(request.user_prompt, None, 1, 0.0)
        began = time.perf_counter()
        rows.add(Row(prepared[0], short), model.encode(prepared[0]))
        while not rows.step():
            pass
        fastest = min(fastest, time.perf_counter() - began)
    waiting = [Row(one, request) for one in prepared]
    for row in waiting:
        rows.add(row, model.encode(row.prepared))
    while any(len(row.tokens) < 2 for row in waiting):
        rows.step()
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        rows.step()
        seconds.append(time.perf_counter() - began)
    return fastest, median(seconds)


def _decode_bytes(network: Any) -> int:
    """The weights that a decode step reads: all but the embedding, of which it reads a row."""
    from mlx.utils import tree_flatten

    weights = tree_flatten(network.language_model.parameters())
    return sum(int(value.nbytes) for name, value in weights if "embed_tokens" not in name)


def _prefill_operations(network: Any, prepared: Prepared) -> float:
    """Multiplications and additions of the matrix products of one prefill."""
    from mlx.utils import tree_flatten

    patches = len(prepared.arrays["pixel_values"])
    tokens = prepared.prompt_tokens
    total = 0.0
    for name, value in tree_flatten(network.parameters()):
        if value.ndim < 2 or "embed_tokens" in name or "pos_embed" in name or "lm_head" in name:
            continue
        merged = "merger" in name  # sees four patches as one
        rows = tokens if "language_model" in name else patches // 4 if merged else patches
        total += 2.0 * value.size * rows
    text, vision = network.config.text_config, network.config.vision_config
    width = text.num_attention_heads * text.head_dim
    attention = text.num_hidden_layers * width * tokens**2
    return float(total + 4.0 * (attention + vision.depth * vision.hidden_size * patches**2))


def _best(work: Callable[[], object], times: int = 5) -> float:
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _copy_rate() -> float:
    """Bytes that are read in a second by a copy on all cores; as many are written."""
    source, target = np.ones(COPIED_FLOATS, np.float32), np.empty(COPIED_FLOATS, np.float32)
    cores = this_machine().cores
    parts = list(zip(np.array_split(source, cores), np.array_split(target, cores), strict=True))
    with ThreadPoolExecutor(cores) as threads:
        seconds = _best(lambda: list(threads.map(lambda p: np.copyto(p[1], p[0]), parts)))
    return float(source.nbytes / seconds)


def _matvec_rate(mx: Any) -> float:
    """Bytes of weights that are read in a second by one large layer for one row."""
    weights, row = mx.ones(MATVEC_SHAPE), mx.ones((1, MATVEC_SHAPE[1]))
    mx.eval(weights, row)
    return float(weights.nbytes / _best(lambda: mx.eval(row @ weights.T)))


def _matmul_rate(mx: Any) -> float:
    """Multiplications and additions in a second of a large float32 matrix product."""
    square = mx.ones((MATMUL_SIDE, MATMUL_SIDE))
    mx.eval(square)
    return float(2.0 * MATMUL_SIDE**3 / _best(lambda: mx.eval(square @ square)))


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])))
