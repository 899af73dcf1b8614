"""Trained weights to a checkpoint in Hub layout: MLX, 8 bits, group size 64.

    python models/training/export.py STATE.safetensors --out models/flowcharts-3m-8bit

``STATE.safetensors`` is what train.py leaves: float32 weights under the Hub's own
names, with the whitening folded into the patch embedding. The text model is
quantised; the vision tower and all norms stay float32. ``--bits 0`` quantises
nothing, which gives the float32 checkpoint that the model card compares with.
Needs mlx-vlm and no torch. Knows nothing of how the weights came to be.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

import vocabulary
from shape import Shape

GROUP_SIZE = 64
Json = dict[str, Any]


def text_config(shape: Shape) -> Json:
    """The text half of config.json; every field that either library asks for is there."""
    rope = {
        "type": "default",
        "rope_type": "default",
        "mrope_interleaved": True,
        "mrope_section": list(shape.mrope_section),
    }
    return {
        "model_type": "qwen3_vl_moe_text",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.experts * shape.expert_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_theta": shape.rope_theta,
        "rope_scaling": rope,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.experts_used,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": shape.expert_width,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": "float32",
    }


def vision_config(shape: Shape) -> Json:
    """The vision half; ``gelu`` because mlx-vlm's blocks use the exact one."""
    return {
        "model_type": "qwen3_vl_moe",
        "depth": shape.vision_layers,
        "hidden_size": shape.vision_hidden,
        "hidden_act": "gelu",
        "intermediate_size": shape.vision_width,
        "num_heads": shape.vision_heads,
        "in_channels": 3,
        "patch_size": shape.patch,
        "spatial_patch_size": shape.patch,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": shape.hidden,
        "num_position_embeddings": shape.position_grid**2,
        "deepstack_visual_indexes": [shape.deepstack_layer],
        "initializer_range": 0.02,
    }


def model_config(shape: Shape, bits: int) -> Json:
    """config.json."""
    ids = vocabulary.token_ids(vocabulary.build_tokenizer())
    config: Json = {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "dtype": "float32",
        "tie_word_embeddings": True,
        "image_token_id": ids.image,
        "video_token_id": ids.video,
        "vision_start_token_id": ids.vision_start,
        "vision_end_token_id": ids.vision_end,
        "pad_token_id": ids.pad,
        "eos_token_id": ids.end,
        "text_config": text_config(shape),
        "vision_config": vision_config(shape),
    }
    config["text_config"] |= {"pad_token_id": ids.pad, "eos_token_id": ids.end}
    if bits:
        config["quantization"] = {"group_size": GROUP_SIZE, "bits": bits, "mode": "affine"}
        config["quantization_config"] = config["quantization"]
    return config


def tokenizer_config() -> Json:
    """tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": list(vocabulary.SPECIAL_TOKENS),
        "bos_token": None,
        "eos_token": vocabulary.IM_END,
        "pad_token": vocabulary.END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 8192,
        "split_special_tokens": False,
        "processor_class": "Qwen3VLProcessor",
        "chat_template": vocabulary.CHAT_TEMPLATE,
    }


def picture_config(shape: Shape, processor: str) -> Json:
    """preprocessor_config.json; its ``size`` decides what the model sees."""
    return {
        "size": {"shortest_edge": shape.min_pixels, "longest_edge": shape.max_pixels},
        "patch_size": shape.patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "processor_class": "Qwen3VLProcessor",
        **({"image_processor_type": processor} if "Image" in processor else {}),
        **({"video_processor_type": processor} if "Video" in processor else {}),
    }


def side_files(shape: Shape, bits: int, tokenizer: Tokenizer) -> dict[str, str]:
    """Every file of the checkpoint but the weights, by name."""
    ids = vocabulary.token_ids(tokenizer)
    generation = {"do_sample": False, "eos_token_id": [ids.end, ids.pad], "pad_token_id": ids.pad}
    template = {"chat_template": vocabulary.CHAT_TEMPLATE}
    specials = {"eos_token": vocabulary.IM_END, "pad_token": vocabulary.END_OF_TEXT}
    documents: dict[str, Json] = {
        "config.json": model_config(shape, bits),
        "generation_config.json": generation,
        "tokenizer_config.json": tokenizer_config(),
        "special_tokens_map.json": specials,
        "preprocessor_config.json": picture_config(shape, "Qwen2VLImageProcessor"),
        "video_preprocessor_config.json": picture_config(shape, "Qwen3VLVideoProcessor"),
        "chat_template.json": template,
    }
    files = {name: json.dumps(value, indent=2) + "\n" for name, value in documents.items()}
    files["tokenizer.json"] = tokenizer.to_str()
    files["chat_template.jinja"] = vocabulary.CHAT_TEMPLATE
    return files


def mlx_weights(weights: dict[str, np.ndarray], config: Json) -> dict[str, Any]:
    """Hub-named arrays to mlx-vlm's parameters, quantised as the configuration says."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten
    from mlx_vlm.models import qwen3_vl_moe
    from mlx_vlm.utils import sanitize_weights

    settings = qwen3_vl_moe.ModelConfig.from_dict(config)
    model = qwen3_vl_moe.Model(settings)
    arrays = {name: mx.array(value) for name, value in weights.items()}
    arrays = sanitize_weights(model, arrays)
    arrays = sanitize_weights(qwen3_vl_moe.VisionModel, arrays, settings.vision_config)
    # The language model's own sanitiser needs the instance: it reads the layer count there.
    arrays = model.language_model.sanitize(arrays)
    model.load_weights(list(arrays.items()), strict=True)
    if "quantization" in config:
        bits = config["quantization"]["bits"]
        nn.quantize(
            model,
            group_size=GROUP_SIZE,
            bits=bits,
            class_predicate=lambda path, module: (
                path.startswith("language_model") and hasattr(module, "to_quantized")
            ),
        )
    flat: dict[str, Any] = dict(tree_flatten(model.parameters()))
    mx.eval(flat)
    return flat


def export(state: Path, out: Path, bits: int = 8, shape: Shape | None = None) -> None:
    """Write the checkpoint; every file is complete before it takes its name."""
    import mlx.core as mx

    shape = shape or Shape()
    weights = {name: np.array(value) for name, value in mx.load(str(state)).items()}
    config = model_config(shape, bits)
    arrays = mlx_weights(weights, config)
    size = sum(value.nbytes for value in arrays.values())
    index = {
        "metadata": {"total_size": size},
        "weight_map": dict.fromkeys(sorted(arrays), "model.safetensors"),
    }
    files = side_files(shape, bits, vocabulary.build_tokenizer())
    files["model.safetensors.index.json"] = json.dumps(index, indent=2) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        mx.save_safetensors(f"{scratch}/model.safetensors", arrays, metadata={"format": "mlx"})
        for name, text in files.items():
            Path(scratch, name).write_text(text, encoding="utf-8")
        for name in ("model.safetensors", *files):
            Path(scratch, name).replace(out / name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a checkpoint from trained weights.")
    parser.add_argument("state", type=Path, help="float32 weights left by train.py")
    parser.add_argument("--out", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument("--bits", type=int, default=8, choices=(0, 8), help="0: no quantisation")
    options = parser.parse_args()
    export(options.state, options.out, options.bits)


if __name__ == "__main__":
    main()
