"""The sizes of the network and of the pictures it sees, and the processor's rule for them.

Needs nothing but the standard library, so that drawing, training and export agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network; config.json is written from this."""

    vocabulary: int = 512
    hidden: int = 192
    layers: int = 4
    heads: int = 3
    key_value_heads: int = 1
    head_dim: int = 64
    experts: int = 4
    experts_used: int = 2
    expert_width: int = 64  # neither hidden nor hidden / 2, or loaders cannot tell the axes apart
    rope_theta: float = 10000.0
    mrope_section: tuple[int, int, int] = (12, 10, 10)
    vision_hidden: int = 128
    vision_layers: int = 6
    vision_heads: int = 4
    vision_width: int = 384
    patch: int = 16
    position_grid: int = 16
    deepstack_layer: int = 2
    min_pixels: int = 192 * 16 * 16
    max_pixels: int = 288 * 16 * 16
    letter_layer: int = 2  # where the training-only letter heads listen

    @property
    def patch_values(self) -> int:
        """Numbers in one patch of one frame."""
        return 3 * self.patch * self.patch

    @property
    def max_patches(self) -> int:
        """Patches of the largest picture that the processor makes."""
        return self.max_pixels // (self.patch * self.patch)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that the processor gives a picture: multiples of 32 in the budget."""
        unit = 2 * self.patch
        rows, columns = round(height / unit) * unit, round(width / unit) * unit
        if rows * columns > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows = max(unit, math.floor(height / shrink / unit) * unit)
            columns = max(unit, math.floor(width / shrink / unit) * unit)
        elif rows * columns < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows = math.ceil(height * grow / unit) * unit
            columns = math.ceil(width * grow / unit) * unit
        return rows, columns


@lru_cache(maxsize=1)
def list_grids(shape: Shape) -> tuple[tuple[int, int], ...]:
    """Every (rows, columns) of patches within the budget and an aspect of four."""
    most = shape.max_patches
    sides = range(2, most // 2 + 1, 2)
    return tuple(
        (rows, columns)
        for rows in sides
        for columns in sides
        if rows * columns <= most and max(rows, columns) <= 4 * min(rows, columns)
    )
