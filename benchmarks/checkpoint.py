"""Random checkpoints: small ones here, those of a published geometry in `published.py`.

About 50 M parameters in float32, or 0.4 M: a dense Qwen3-VL with the tokenizer, the chat template
and the processor of the embedded one. Only tokens of plain text can ever win: no end of text, so
that all captions are equally long, and no special token, unknown number or half of a UTF-8
character, so that all decoders give one text. The tiny one says `a blue box`, and ends.

    python -m benchmarks.checkpoint DIRECTORY
"""

import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).resolve().parent.parent / "models" / "flowcharts-3m-8bit"
COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
)
PATCH = 16  # pixels; two by two patches make one image token
TOKEN_PIXELS = (2 * PATCH) ** 2
MIN_IMAGE_TOKENS, MAX_IMAGE_TOKENS = 60, 256
VOCABULARY = 512
SAID = ("Ċ", "Ġa", "Ġblue", "Ġbox", "<|im_end|>")  # by the tiny one; a prompt ends with a new line
SEED = 7

TEXT = {
    "model_type": "qwen3_vl_text",
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "intermediate_size": 2560,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "type": "default",
        "rope_type": "default",
        "mrope_interleaved": True,
        "mrope_section": [12, 10, 10],
    },
    "attention_bias": False,
    "tie_word_embeddings": False,
    "dtype": "float32",
}
VISION = {
    "model_type": "qwen3_vl",
    "depth": 4,
    "hidden_size": 384,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 1280,
    "num_heads": 4,
    "in_channels": 3,
    "patch_size": PATCH,
    "spatial_patch_size": PATCH,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 512,
    "num_position_embeddings": 256,
    "deepstack_visual_indexes": [0, 1, 2],
}


TINY_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
TINY_VISION = {
    "depth": 1,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 1,
    "out_hidden_size": 64,
    "deepstack_visual_indexes": [0],
}


def make_checkpoint(directory: Path, tiny: bool = False) -> None:
    """Write the checkpoint into `directory`, config.json last of all."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_vlm.models import qwen3_vl

    config = _config(tiny)
    mx.random.seed(SEED)
    model = qwen3_vl.Model(qwen3_vl.ModelConfig.from_dict(json.loads(json.dumps(config))))
    weights: dict[str, Any] = dict(tree_flatten(model.parameters()))
    weights["language_model.lm_head.weight"] *= reachable(VOCABULARY)  # others get a logit of 0
    if tiny:
        _say_a_sentence(weights)
    directory.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(directory / "model.safetensors"), weights, metadata={"format": "mlx"})
    least = (1 if tiny else MIN_IMAGE_TOKENS) * TOKEN_PIXELS
    write_the_rest(directory, config, (least, MAX_IMAGE_TOKENS * TOKEN_PIXELS))


def write_the_rest(directory: Path, config: dict[str, Any], pixels: tuple[int, int]) -> None:
    """All but the weights: tokenizer, a processor of at least and at most so many `pixels`, and the
    configuration, last of all."""
    for name in COPIED:
        shutil.copyfile(EMBEDDED / name, directory / name)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        processor = json.loads((EMBEDDED / name).read_bytes())
        processor["size"] = {"shortest_edge": pixels[0], "longest_edge": pixels[1]}
        _write(directory / name, processor)
    generation = json.loads((EMBEDDED / "generation_config.json").read_bytes())
    _write(directory / "generation_config.json", generation)
    _write(directory / "config.json", config)


def is_made(directory: Path, config: dict[str, Any] | None = None) -> bool:
    """Whether `directory` holds the checkpoint of `config`, which is that of `make_checkpoint`."""
    try:
        made = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(made == (config or _config()))


def reachable(vocabulary: int) -> Any:
    """A column of ones for the tokens that may win, of zeros for all others."""
    import mlx.core as mx

    plain = plain_text_tokens()
    return mx.array([[float(number in plain)] for number in range(vocabulary)])


def plain_text_tokens() -> set[int]:
    """The numbers of the tokens that are printable ASCII, and not added ones.

    Added tokens begin and end texts: `<|endoftext|>` is printable ASCII too.
    """
    tokenizer = json.loads((EMBEDDED / "tokenizer.json").read_bytes())
    added = {token["id"] for token in tokenizer["added_tokens"]}
    return {
        number
        for token, number in tokenizer["model"]["vocab"].items()
        if token.replace("Ġ", " ").isascii() and token.isprintable() and number not in added
    }


def _vocabulary() -> dict[str, int]:
    tokenizer = json.loads((EMBEDDED / "tokenizer.json").read_bytes())
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    return dict(tokenizer["model"]["vocab"]) | added


def _say_a_sentence(weights: dict[str, Any]) -> None:
    """Let each token of `SAID` lead to the next: the layers add nothing to its embedding, and the
    next one's logit is how much a hidden state is like it."""
    for name in weights:
        if name.startswith("language_model.") and ("o_proj" in name or "down_proj" in name):
            weights[name] *= 0
    numbers = [_vocabulary()[token] for token in SAID]
    head = weights["language_model.lm_head.weight"] * 0
    for token, following in pairwise(numbers):
        head[following] = weights["language_model.model.embed_tokens.weight"][token]
    weights["language_model.lm_head.weight"] = head


def _config(tiny: bool = False) -> dict[str, Any]:
    config = json.loads((EMBEDDED / "config.json").read_bytes())
    ends = {name: config[name] for name in ("pad_token_id", "eos_token_id")}
    kept = {name: value for name, value in config.items() if name.endswith("_token_id")}
    return kept | {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "dtype": "float32",
        "tie_word_embeddings": False,
        "text_config": TEXT | ends | (TINY_TEXT if tiny else {}),
        "vision_config": VISION | (TINY_VISION if tiny else {}),
        "seed": SEED,
        "plain_text_tokens": len(plain_text_tokens()),
    }


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make_checkpoint(Path(sys.argv[1]))
