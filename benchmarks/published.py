"""Random checkpoints in the geometry of published ones, quantised as they are.

Their captions say nothing, but cost what the real ones cost. Like the small one they never end a
text, and attention is sharp enough for the next token to depend on the whole of the prompt, so that
they do not repeat themselves for long.

    python -m benchmarks.published DIRECTORY 4b|30b
"""

import importlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.checkpoint import EMBEDDED, SEED, TEXT, VISION, reachable, write_the_rest

VOCABULARY = 151_936
GROUP_SIZE = 64
PIXELS = 65_536, 16_777_216  # what Qwen3-VL's own processor takes
SHARPNESS = 2.5  # of queries and of keys
SHARD_BYTES = 4_500_000_000
COMMON_TEXT = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 262_144,
    "rope_theta": 5e6,
    "head_dim": 128,
    "dtype": "bfloat16",
    "rope_scaling": {**TEXT["rope_scaling"], "mrope_section": [24, 20, 20]},  # type: ignore[dict-item]
}


@dataclass(frozen=True, slots=True)
class Geometry:
    """What tells one published checkpoint from another."""

    published: str
    bits: int
    model_type: str
    architecture: str
    text: dict[str, Any] = field(default_factory=dict)
    vision: dict[str, Any] = field(default_factory=dict)


GEOMETRIES = {
    "4b": Geometry(
        published="Qwen3-VL-4B-Instruct, 4 bits",
        bits=4,
        model_type="qwen3_vl",
        architecture="Qwen3VLForConditionalGeneration",
        text={
            "hidden_size": 2560,
            "intermediate_size": 9728,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
        },
        vision={
            "depth": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "out_hidden_size": 2560,
            "deepstack_visual_indexes": [5, 11, 17],
        },
    ),
    "30b": Geometry(
        published="Qwen3-VL-30B-A3B-Instruct, 8 bits",
        bits=8,
        model_type="qwen3_vl_moe",
        architecture="Qwen3VLMoeForConditionalGeneration",
        text={
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
        },
        vision={
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "out_hidden_size": 2048,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    ),
}


def config_of(name: str) -> dict[str, Any]:
    """The config.json of the checkpoint."""
    geometry = GEOMETRIES[name]
    base = json.loads((EMBEDDED / "config.json").read_bytes())
    ends = {each: base[each] for each in ("pad_token_id", "eos_token_id")}
    vision = {"model_type": geometry.model_type, "num_position_embeddings": 2304, "num_heads": 16}
    config = {
        **{each: value for each, value in base.items() if each.endswith("_token_id")},
        "architectures": [geometry.architecture],
        "model_type": geometry.model_type,
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
        "text_config": {
            **TEXT,
            **COMMON_TEXT,
            **ends,
            "model_type": f"{geometry.model_type}_text",
            **geometry.text,
        },
        "vision_config": {**VISION, **vision, **geometry.vision},
        "quantization": {"group_size": GROUP_SIZE, "bits": geometry.bits},
        "seed": SEED,
        "sharpness": SHARPNESS,
    }
    return dict(json.loads(json.dumps(config)))


def make_published(directory: Path, name: str) -> None:
    """Write the checkpoint into `directory`, config.json last of all.

    Its weights are made and quantised a layer at a time, so that it needs little more memory than
    it has weights.
    """
    import mlx.core as mx
    from mlx import nn

    config = config_of(name)
    module = importlib.import_module(f"mlx_vlm.models.{config['model_type']}")
    mx.random.seed(SEED)
    model = module.Model(module.ModelConfig.from_dict(config))
    model.set_dtype(mx.bfloat16)
    language = model.language_model
    language.lm_head.weight *= reachable(VOCABULARY).astype(mx.bfloat16)
    for layer in language.model.layers:
        for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm):
            norm.weight *= SHARPNESS

    def quantised(path: str, part: Any) -> bool:
        return hasattr(part, "to_quantized") and not path.endswith("mlp.gate")

    nn.quantize(language, GROUP_SIZE, GEOMETRIES[name].bits, class_predicate=quantised)
    for layer in (*language.model.layers, *model.vision_tower.blocks):
        mx.eval(layer.parameters())
    mx.eval(model.parameters())
    directory.mkdir(parents=True, exist_ok=True)
    _save(model, directory)
    write_the_rest(directory, config, PIXELS)


def _save(model: Any, directory: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    shards: list[dict[str, Any]] = [{}]
    size = 0
    for name, value in tree_flatten(model.parameters()):
        if size > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += value.nbytes
    places = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        mx.save_safetensors(str(directory / file), shard, metadata={"format": "mlx"})
        places.update(dict.fromkeys(shard, file))
    index = {"metadata": {"format": "mlx"}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


if __name__ == "__main__":
    make_published(Path(sys.argv[1]), sys.argv[2])
