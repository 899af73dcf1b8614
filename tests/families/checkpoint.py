"""Tiny random checkpoints of many architectures, with a tokenizer and their own processor's files.

Knows nothing of what is compared with them. Nothing is downloaded: the tokenizer has a token for
each byte and those that the family marks pictures and turns with.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

SEED = 11
GAIN = 1.6  # of random matrices, so that what is seen changes what is said
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
END = "<|im_end|>"


@dataclass(frozen=True)
class Family:
    """How to make a checkpoint of one architecture."""

    model_type: str
    config: dict[str, Any]  # without what `sizes` and `ids` add
    image: str = ""  # what the chat template writes for a picture
    special: tuple[str, ...] = ()  # tokens besides those of the turns
    ids: dict[str, str] = field(default_factory=dict)  # configuration key -> token
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    chat: str | None = CHAT
    spread: float = 1.0  # of random embeddings; less where they are the head too
    named: dict[str, str] = field(default_factory=dict)  # the tokenizer's names of its tokens


def make_checkpoint(family: Family, directory: Path) -> Path:
    """Write the checkpoint of `family` into `directory`."""
    directory.mkdir(parents=True)
    numbers = make_tokenizer(family, directory)
    config = json.loads(json.dumps(family.config))
    config["model_type"] = family.model_type
    config["dtype"] = "float32"
    config["eos_token_id"] = numbers[END]
    for key, token in family.ids.items():
        part, _, name = key.rpartition(".")
        (config[part] if part else config)[name] = numbers[token]
    size = max(numbers.values()) + 1
    for part in (config, config.get("text_config", {})):
        part.setdefault("vocab_size", size)
    for name, value in family.files.items():
        write(directory / name, value)
    write(directory / "config.json", config)
    make_weights(config, directory, family.spread)
    return directory


def make_tokenizer(family: Family, directory: Path) -> dict[str, int]:
    """A tokenizer with a token for each byte; returns the number of each token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={b: n for n, b in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = dict.fromkeys(("<pad>", "<s>", "<|im_start|>", END, *family.special))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    fast: Any = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token=END,
        pad_token="<pad>",
        extra_special_tokens=family.named,
    )
    if family.chat:
        fast.chat_template = family.chat.replace("IMAGE", family.image)
    fast.save_pretrained(directory)
    return dict(tokenizer.get_vocab(with_added_tokens=True))


def make_weights(config: dict[str, Any], directory: Path, spread: float) -> None:
    """Random weights in float32 for the model that mlx-vlm makes of `config`."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_vlm.utils import get_model_and_args, update_module_configs

    config = json.loads(json.dumps(config))
    for part in ("text_config", "vision_config", "audio_config"):
        config.setdefault(part, {})
    module, _ = get_model_and_args(config)
    made = module.ModelConfig.from_dict(config)
    parts = ["text", "vision", "perceiver", "projector", "audio"]
    made = update_module_configs(made, module, config, parts)
    mx.random.seed(SEED)
    weights = {}
    for name, value in tree_flatten(module.Model(made).parameters()):
        value = value.astype(mx.float32)
        if value.ndim > 1:
            fan_in = math.prod(value.shape[1:])
            scale = spread if "embed" in name and value.ndim == 2 else GAIN / math.sqrt(fan_in)
            value = mx.random.normal(value.shape) * scale
        weights[name] = value
    mx.save_safetensors(str(directory / "model.safetensors"), weights, {"format": "mlx"})


def write(path: Path, value: Any) -> None:
    """Write JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
