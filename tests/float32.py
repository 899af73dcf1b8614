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
