"""From drawn views to what the network takes: the pool, light and grain, positions.

Knows nothing of losses or of optimisers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from network import Captioner, GridTables
from pool import BLOCK, Fields, empty_fields
from shape import Shape
from views import Texts


class Pool:
    """A ring of drawn views on the device, topped up from the stream."""

    def __init__(self, size: int, shape: Shape, texts: Texts, device: torch.device) -> None:
        self.fields = empty_fields(size, shape, texts, device)
        self.size, self.filled, self.cursor = size, 0, 0
        self.device = device

    def insert(self, block: Fields) -> None:
        """Overwrite the oldest views with a block."""
        rows = slice(self.cursor, self.cursor + BLOCK)
        for field, fresh in zip(self.fields, block, strict=True):
            # A pinned copy lets the transfer wait its turn without stopping this process.
            source = fresh.pin_memory() if self.device.type == "cuda" else fresh
            field[rows].copy_(source, non_blocking=True)
        self.cursor = (self.cursor + BLOCK) % self.size
        self.filled = min(self.size, self.filled + BLOCK)

    def sample(self, batch: int, random: torch.Generator) -> Fields:
        """Views picked at random."""
        rows = torch.randint(self.filled, (batch,), generator=random, device=self.device)
        patches, labels, tokens, facts = (field[rows] for field in self.fields)
        return patches, labels, tokens, facts


def vary(patches: Tensor, random: torch.Generator) -> Tensor:
    """Bytes to -1..1, with other light and grain for each picture."""
    count, device = patches.shape[0], patches.device

    def uniform(low: float, high: float, channels: int) -> Tensor:
        size = (count, 1, channels, 1)
        return low + (high - low) * torch.rand(size, generator=random, device=device)

    x = patches.float().reshape(count, patches.shape[1], 3, -1) / 127.5 - 1
    x = x * uniform(0.94, 1.06, 1) * uniform(0.98, 1.02, 3) + uniform(-0.04, 0.04, 1)
    grain = uniform(-0.05, 0.05, 1).clamp(min=0)
    x = x + grain * torch.randn(x.shape, generator=random, device=device)
    return x.clamp(-1, 1).flatten(-2)


def place(tokens: Tensor, facts: Tensor, tables: GridTables) -> tuple[Tensor, Tensor]:
    """M-RoPE positions [batch, 3, length] and image slots [batch, length]."""
    grid, image_start, _, _, gap_at, gap = facts.long().unbind(1)
    steps = torch.arange(tokens.shape[1], device=tokens.device)[None]
    image_tokens = tables.present[grid].sum(1, keepdim=True) // 4
    start = image_start[:, None]
    slot = steps - start
    inside = (slot >= 0) & (slot < image_tokens)
    slots = torch.where(inside, slot, -1)
    after = slot - image_tokens + tables.extent[grid][:, None] + start
    after = after + torch.where(steps >= gap_at[:, None], gap[:, None], 0)
    plain = torch.where(slot < 0, steps.expand_as(slot), after)
    pick = slots.clamp(min=0)
    row = start + tables.merged_rows[grid].gather(1, pick)
    column = start + tables.merged_columns[grid].gather(1, pick)
    positions = [torch.where(inside, value, plain) for value in (start, row, column)]
    return torch.stack(positions, dim=1), slots


@torch.no_grad()
def measure_whitening(network: Captioner, pool: Pool, tables: GridTables) -> None:
    """Set the patch whitening from the pool's first pictures, in double precision."""
    width = network.shape.patch_values
    total = torch.zeros(width, dtype=torch.float64, device=pool.device)
    square = torch.zeros(width, width, dtype=torch.float64, device=pool.device)
    count = 0
    for start in range(0, min(pool.filled, 2048), 128):
        patches, _, _, facts = (field[start : start + 128] for field in pool.fields)
        real = patches[tables.present[facts[:, 0].long()]].double() / 127.5 - 1
        total += real.sum(0)
        square += real.mT @ real
        count += real.shape[0]
    mean = total / count
    covariance = square / count - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    # The floor keeps directions that hold nothing but grain from being blown up.
    whitening = vectors / (values.clamp(min=0) + 0.02).sqrt() @ vectors.mT
    network.patch_mean.copy_(mean)
    network.whitening.copy_(whitening)
