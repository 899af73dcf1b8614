"""How long the prompts of a run are, beside what the model takes. Knows nothing of tokenizers."""

import json
from pathlib import Path
from typing import Any

from captioner.checkpoint.files import read_text
from captioner.errors import InputError
from captioner.settings import Settings

QWEN_MOST_PIXELS = 16_777_216  # of a picture, when --max-pixels leaves it to the model


def remark_on_length(tokens: int, directory: Path, settings: Settings) -> str | None:
    """What is worth saying of prompts that are more than the largest picture; None otherwise.

    Raises:
        InputError: they leave no room for a picture in what the model takes.
    """
    config = json.loads(read_text(directory / "config.json"))
    limit = _number(config, "max_position_embeddings", 0)
    if 0 < limit <= tokens:
        raise InputError(
            f"The prompts are {tokens:,} tokens long, and the model takes {limit:,} together with "
            "the picture: shorten --user-prompt or --system-prompt."
        )
    picture = _picture_tokens(config, settings.max_pixels)
    if tokens <= picture:
        return None
    return (
        f"The prompts are {tokens:,} tokens long, more than the {picture:,} of the largest "
        "picture; the model reads them again for each caption"
    )


def _picture_tokens(config: dict[str, Any], max_pixels: int) -> int:
    """A square of patches is a token; where the configuration does not say how large, as in
    Qwen3-VL."""
    side = _number(config, "patch_size", 16) * _number(config, "spatial_merge_size", 2)
    return (max_pixels or QWEN_MOST_PIXELS) // (side * side)


def _number(config: dict[str, Any], name: str, default: int) -> int:
    """A number of the configuration, or of that of one of the model's two parts."""
    for part in (config.get("text_config"), config.get("vision_config"), config):
        value = part.get(name) if isinstance(part, dict) else None
        if isinstance(value, int) and value > 0:
            return value
    return default
