"""How many tokens a picture is for a model of the Qwen-VL family, by its size alone.

The processor scales a picture so that both sides are whole numbers of tokens and the pixels are
within its bounds. Source: `smart_resize` of transformers' `Qwen2VLImageProcessor`, which mlx-vlm
follows (https://github.com/huggingface/transformers, models/qwen2_vl). Knows nothing of files of
pictures.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from captioner.checkpoint.files import read_object
from captioner.checkpoint.prompts import QWEN_MOST_PIXELS
from captioner.pictures.decoding import fitted


@dataclass(frozen=True, slots=True)
class Eyes:
    """How a processor cuts pictures into tokens; the defaults are Qwen3-VL's."""

    patch: int = 16  # pixels
    merge: int = 2  # patches along each side of a token
    min_pixels: int = 65_536
    max_pixels: int = QWEN_MOST_PIXELS

    @classmethod
    def of(cls, directory: Path) -> Self | None:
        """Those of a checkpoint; None when it does not say, or counts in another way."""
        raw = read_object(directory / "preprocessor_config.json")
        raw |= _part(read_object(directory / "processor_config.json"), "image_processor")
        size = _part(raw, "size")
        found = (
            raw.get("patch_size"),
            raw.get("merge_size"),
            raw.get("min_pixels") or size.get("shortest_edge"),
            raw.get("max_pixels") or size.get("longest_edge"),
        )
        numbers = [n for n in found if isinstance(n, int) and 0 < n < 1 << 40]
        return cls(*numbers) if len(numbers) == len(found) else None

    def tokens(self, size: tuple[int, int], cap: int) -> int:
        """The tokens of a picture that is first scaled down to `cap` pixels; 0 for no cap."""
        width, height = fitted(size, cap)
        side = self.patch * self.merge
        across, down = round(width / side), round(height / side)  # in tokens
        if across * down * side * side > self.max_pixels:
            scale = math.sqrt(width * height / self.max_pixels)
            across = max(1, math.floor(width / scale / side))
            down = max(1, math.floor(height / scale / side))
        elif across * down * side * side < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (width * height))
            across, down = math.ceil(width * scale / side), math.ceil(height * scale / side)
        return across * down


def _part(value: dict[str, Any], key: str) -> dict[str, Any]:
    part = value.get(key)
    return part if isinstance(part, dict) else {}
