"""How far prefill and decode are from what this machine can do, measured in one process.

    python -m benchmarks.limits CHECKPOINT BATCH_SIZE PICTURE...

A decode step has to read all weights of the language model once, and what is kept of each row's
tokens: its limit is the memory's bandwidth. Prefill is matrix products: its limit is their rate.
Both are measured in the type of the checkpoint's numbers. Prints a JSON object.
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
MATVEC_SHAPE = (16_384, 4_096)
MATMUL_SIDE = {"cpu": 2_048, "gpu": 8_192}
STEPS = 24  # timed decode steps


def measure(checkpoint: Path, pictures: list[Path], batch_size: int) -> dict[str, float]:
    """The figures of `main`, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.limits", str(checkpoint), str(batch_size)]
    done = subprocess.run(
        [*command, *map(str, pictures)],
        env=measured(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(checkpoint: Path, batch_size: int, pictures: list[Path]) -> dict[str, float]:
    """Bandwidth, matrix rate, and what prefill and decode make of them."""
    import mlx.core as mx

    device = "gpu" if mx.default_device() == mx.Device(mx.gpu) else "cpu"
    model = MlxModel(checkpoint)
    network: Any = model._model
    dtype = network.vision_tower.patch_embed.proj.weight.dtype
    figures = {
        "copy_read_gb_per_s": (_gpu_copy_rate(mx) if device == "gpu" else _copy_rate()) / 1e9,
        "matvec_gb_per_s": _matvec_rate(mx, dtype) / 1e9,
        "matmul_gflop_per_s": _matmul_rate(mx, dtype, MATMUL_SIDE[device]) / 1e9,
    }
    request = Request(PROMPT, None, 2 * batch_size + 2 * STEPS, 0.0)
    prepared = [model.prepare(Image.open(path).convert("RGB"), request) for path in pictures]
    many = (prepared * batch_size)[:batch_size]
    prefill, one = _timed(model, model.rows(1), prepared[:1], request)
    operations = _prefill_operations(network, prepared[0])
    model.batch_size(batch_size, request.max_tokens)  # makes the layers ready for it
    _, all_rows = _timed(model, model.rows(batch_size), many, request)
    one_bytes = _decode_bytes(checkpoint, network, prepared[:1])
    many_bytes = _decode_bytes(checkpoint, network, many)
    return figures | {
        "batch_size": batch_size,
        "decode_step_bytes": one_bytes,
        "decode_step_ms": one * 1e3,
        "decode_gb_per_s": one_bytes / one / 1e9,
        "batched_decode_step_bytes": many_bytes,
        "batched_decode_step_ms": all_rows * 1e3,
        "batched_decode_gb_per_s": many_bytes / all_rows / 1e9,
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


def _decode_bytes(checkpoint: Path, network: Any, rows: list[Prepared]) -> float:
    """What a decode step of these rows has to read: each weight of the checkpoint once, of the
    embedding next to nothing, of the experts those that are asked; and all keys and values."""
    import mlx.core as mx

    text = network.config.text_config
    asked = _experts_asked(text, len(rows))
    total = 0.0
    for file in checkpoint.glob("*.safetensors"):
        weights: Any = mx.load(str(file))  # no weight is read for that
        for name, value in weights.items():
            if "language_model" in name and "embed_tokens" not in name:
                total += value.nbytes * (asked if value.ndim == 3 else 1)
    number = network.vision_tower.patch_embed.proj.weight.dtype.size
    kept = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * number
    return float(total + kept * sum(row.prompt_tokens for row in rows))


def _experts_asked(text: Any, rows: int) -> float:
    """The share of the experts that so many rows ask for, if each asks for any; 1 without any."""
    experts = getattr(text, "num_experts", 0)
    return float(1 - (1 - text.num_experts_per_tok / experts) ** rows) if experts else 1.0


def _prefill_operations(network: Any, prepared: Prepared) -> float:
    """Multiplications and additions of the matrix products of one prefill, vision tower and all."""
    from mlx.utils import tree_flatten

    patches = len(prepared.arrays["pixel_values"])
    tokens = prepared.prompt_tokens
    text, vision = network.config.text_config, network.config.vision_config
    bits = {name: part.bits for name, part in network.named_modules() if hasattr(part, "bits")}
    total = 0.0
    for name, value in tree_flatten(network.parameters()):
        layer, _, kind = name.rpartition(".")
        if kind != "weight" or any(part in name for part in ("embed", "lm_head", "norm")):
            continue
        size = value.size * 32 // bits[layer] if layer in bits else value.size
        if "language_model" in name:
            rows = tokens * (_experts_asked(text, 1) if value.ndim == 3 else 1)
        else:
            rows = patches // 4 if "merger" in name else patches  # it sees four patches as one
        total += 2.0 * size * rows
    total += 2.0 * patches * network.vision_tower.patch_embed.proj.weight.size
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


def _gpu_copy_rate(mx: Any) -> float:
    """Bytes that the GPU reads in a second while it writes as many."""
    source = mx.random.normal((COPIED_FLOATS,))
    mx.eval(source)
    return float(source.nbytes / _best(lambda: mx.eval(source + 1)))


def _matvec_rate(mx: Any, dtype: Any) -> float:
    """Bytes of weights that are read in a second by one large layer for one row."""
    weights = mx.random.normal(MATVEC_SHAPE).astype(dtype)
    row = mx.random.normal((1, MATVEC_SHAPE[1])).astype(dtype)
    mx.eval(weights, row)
    return float(weights.nbytes / _best(lambda: mx.eval(row @ weights.T)))


def _matmul_rate(mx: Any, dtype: Any, side: int) -> float:
    """Multiplications and additions in a second of a large matrix product."""
    square = mx.random.normal((side, side)).astype(dtype)
    mx.eval(square)
    return float(2.0 * side**3 / _best(lambda: mx.eval(square @ square)))


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[3:]]
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), files)))
