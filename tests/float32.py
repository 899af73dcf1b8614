"""The embedded checkpoint with dequantised weights, for comparisons that rounding would blur."""

import json
import shutil
from pathlib import Path

WEIGHTS = "model.safetensors"


def dequantise(source: Path, target: Path) -> Path:
    """Copy the checkpoint in `source` to `target` with all weights in float32."""
    import mlx.core as mx

    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    settings = config.pop("quantization")
    config.pop("quantization_config", None)
    (target / "config.json").write_text(json.dumps(config))
    weights = mx.load(str(target / WEIGHTS))
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
