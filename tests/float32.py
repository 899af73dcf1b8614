"""Checkpoints for what the embedded one cannot show: other numbers, captions that never end."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checkpoint import SAID, make_checkpoint

WEIGHTS = "model.safetensors"
CERTAIN = 50.0  # a logit that no sampling of ours passes by


def dequantise(source: Path, target: Path) -> Path:
    """Copy the checkpoint in `source` to `target` with all weights in float32."""
    import mlx.core as mx

    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    settings = config.pop("quantization")
    config.pop("quantization_config", None)
    (target / "config.json").write_text(json.dumps(config))
    weights: Any = mx.load(str(target / WEIGHTS))
    whole = {}
    for name, value in weights.items():
        layer = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        if f"{layer}.scales" in weights:
            value = mx.dequantize(
                value,
                weights[f"{layer}.scales"],
                weights[f"{layer}.biases"],
                group_size=settings["group_size"],
                bits=settings["bits"],
            )
        whole[name] = value.astype(mx.float32)
    mx.save_safetensors(str(target / WEIGHTS), whole, {"format": "mlx"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(whole, WEIGHTS)}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    return target


def in_bfloat16(source: Path, target: Path) -> Path:
    """Copy the checkpoint in `source`, which is in float32, to `target` in half as many bytes."""
    import mlx.core as mx

    shutil.copytree(source, target)
    weights: Any = mx.load(str(target / WEIGHTS))
    halved = {name: value.astype(mx.bfloat16) for name, value in weights.items()}
    mx.save_safetensors(str(target / WEIGHTS), halved, {"format": "mlx"})
    return target


def seeing_small_pictures(source: Path, target: Path) -> Path:
    """Copy the checkpoint in `source` to `target`, but for enlarging pictures: a prefill then costs
    next to nothing, and captions are still as different as pictures are."""
    shutil.copytree(source, target)
    path = target / "preprocessor_config.json"
    processor = json.loads(path.read_text())
    processor["size"]["shortest_edge"] = 1
    path.write_text(json.dumps(processor))
    return target


def never_ending(source: Path, target: Path) -> Path:
    """Copy the checkpoint in `source` to `target` with an end-of-text token that it never says."""
    shutil.copytree(source, target)
    unsaid = json.loads((target / "config.json").read_text())["video_token_id"]
    for path in target.glob("*config*.json"):
        config = json.loads(path.read_text())
        for part in (config, config.get("text_config", {})):
            part.update({"eos_token_id": unsaid} if "eos_token_id" in part else {})
            part.update({"eos_token": "<|video_pad|>"} if "eos_token" in part else {})
        path.write_text(json.dumps(config))
    (target / "special_tokens_map.json").write_text('{"eos_token": "<|video_pad|>"}')
    return target


def looping(target: Path, way_out: bool = False) -> Path:
    """Make the benchmarks' tiny checkpoint in `target`, but for saying `a blue box` for ever.

    With a `way_out` its end is nearly as likely after each `box`, so that it is only greedy
    captions that never end.
    """
    import mlx.core as mx

    make_checkpoint(target, tiny=True)
    tokenizer = json.loads((target / "tokenizer.json").read_bytes())
    numbers = tokenizer["model"]["vocab"] | {
        t["content"]: t["id"] for t in tokenizer["added_tokens"]
    }
    said = [numbers[token] for token in SAID]
    weights: Any = mx.load(str(target / WEIGHTS))
    states = np.array(weights["language_model.model.embed_tokens.weight"])[said[:-1]]
    states /= np.sqrt((states**2).mean(axis=1, keepdims=True))  # the last norm
    logits = np.eye(len(said), len(states), k=-1, dtype=np.float32)  # of the next, after each
    logits[1, -1], logits[-1, -1] = 1, 0.999 if way_out else 0
    name = "language_model.lm_head.weight"
    head = np.zeros(weights[name].shape, np.float32)
    head[said] = CERTAIN * logits @ np.linalg.pinv(states.T)
    weights[name] = mx.array(head)
    mx.save_safetensors(str(target / WEIGHTS), weights, {"format": "mlx"})
    return target
