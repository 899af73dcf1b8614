"""The network as it is trained: Qwen3-VL mixture of experts, in fixed shapes.

Computes what ``Qwen3VLMoeForConditionalGeneration`` computes, with names that
export.py maps one to one, and adds what training alone needs: whitened patches,
heads on the text patches, and experts as one wide, masked MLP. Knows nothing of
drawing, of batches or of optimisers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shape import Shape, list_grids


@dataclass(frozen=True, slots=True)
class GridTables:
    """What the vision tower must know of each patch grid, one row a grid, padded."""

    corners: Tensor  # [grids, patches, 4] rows of the position table around each patch
    corner_weights: Tensor  # [grids, patches, 4] and how much each counts
    cos: Tensor  # [grids, patches, head_dim]
    sin: Tensor  # [grids, patches, head_dim]
    present: Tensor  # [grids, patches] False where a patch is padding
    merged_rows: Tensor  # [grids, patches / 4] row of each image token
    merged_columns: Tensor  # [grids, patches / 4]
    extent: Tensor  # [grids] image tokens along the longer side

    def to(self, device: torch.device) -> GridTables:
        """The same tables on another device."""
        return GridTables(*(getattr(self, name).to(device) for name in self.__slots__))


def _patch_order(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Row and column of each patch in the processor's order: 2 by 2 blocks."""
    order = torch.arange(rows * columns).reshape(rows // 2, 2, columns // 2, 2)
    order = order.permute(0, 2, 1, 3).reshape(-1)
    return order // columns, order % columns


def build_tables(shape: Shape) -> GridTables:
    """Tables for all of ``list_grids``."""
    grids = list_grids(shape)
    count, most, head = len(grids), shape.max_patches, shape.vision_hidden // shape.vision_heads
    side = shape.position_grid
    corners = torch.zeros(count, most, 4, dtype=torch.long)
    weights = torch.zeros(count, most, 4)
    angles = torch.zeros(count, most, head // 2)
    present = torch.zeros(count, most, dtype=torch.bool)
    merged_rows = torch.zeros(count, most // 4, dtype=torch.long)
    merged_columns = torch.zeros(count, most // 4, dtype=torch.long)
    frequencies = 1.0 / (10000.0 ** (torch.arange(0, head // 2, 2).float() / (head // 2)))
    for index, (rows, columns) in enumerate(grids):
        row, column = _patch_order(rows, columns)
        used = rows * columns
        y = torch.linspace(0, side - 1, rows)[row]
        x = torch.linspace(0, side - 1, columns)[column]
        top, left = y.long(), x.long()
        bottom, right = (top + 1).clamp(max=side - 1), (left + 1).clamp(max=side - 1)
        dy, dx = y - top, x - left
        corners[index, :used] = torch.stack(
            [top * side + left, top * side + right, bottom * side + left, bottom * side + right], 1
        )
        weights[index, :used] = torch.stack(
            [(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx], 1
        )
        angles[index, :used] = torch.cat(
            [row[:, None] * frequencies, column[:, None] * frequencies], dim=1
        )
        present[index, :used] = True
        merged_rows[index, : used // 4] = row[::4] // 2
        merged_columns[index, : used // 4] = column[::4] // 2
    angles = torch.cat([angles, angles], dim=-1)
    extent = torch.tensor([max(rows, columns) // 2 for rows, columns in grids])
    return GridTables(
        corners, weights, angles.cos(), angles.sin(), present, merged_rows, merged_columns, extent
    )


def rotate(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, halves split."""
    first, second = values.chunk(2, dim=-1)
    return values * cos + torch.cat([-second, first], dim=-1) * sin


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learnt scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, values: Tensor) -> Tensor:
        """Norm over the last axis, in float32."""
        wide = values.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        scaled: Tensor = (wide * self.weight).to(values.dtype)
        return scaled


class VisionBlock(nn.Module):
    """Attention and MLP over the patches of one picture."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.vision_hidden
        self.heads = shape.vision_heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.linear_fc1 = nn.Linear(width, shape.vision_width)
        self.linear_fc2 = nn.Linear(shape.vision_width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """[batch, patches, width] to the same; ``mask`` is False for padding."""
        batch, patches, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, patches, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        query = rotate(query, cos[:, None], sin[:, None]).to(value.dtype)
        key = rotate(key, cos[:, None], sin[:, None]).to(value.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, patches, width))
        # mlx-vlm's tower for this model type uses the exact GELU here, whatever the config says.
        changed: Tensor = self.linear_fc2(F.gelu(self.linear_fc1(self.norm2(x))))
        return x + changed


class Merger(nn.Module):
    """Four patches to one image token of the text model's width."""

    def __init__(self, shape: Shape, *, norm_after_merge: bool) -> None:
        super().__init__()
        self.width = 4 * shape.vision_hidden
        self.norm_after_merge = norm_after_merge
        self.norm = nn.LayerNorm(self.width if norm_after_merge else shape.vision_hidden, eps=1e-6)
        self.linear_fc1 = nn.Linear(self.width, self.width)
        self.linear_fc2 = nn.Linear(self.width, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, patches, width] to [batch, patches / 4, text width]."""
        batch = x.shape[0]
        if self.norm_after_merge:
            x = self.norm(x.reshape(batch, -1, self.width))
        else:
            x = self.norm(x).reshape(batch, -1, self.width)
        hidden: Tensor = self.linear_fc2(F.gelu(self.linear_fc1(x), approximate="tanh"))
        return hidden


class TextLayer(nn.Module):
    """One decoder layer: grouped attention, then experts."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        hidden, head = shape.hidden, shape.head_dim
        self.input_layernorm = RMSNorm(hidden)
        self.post_attention_layernorm = RMSNorm(hidden)
        self.q_proj = nn.Linear(hidden, shape.heads * head, bias=False)
        self.k_proj = nn.Linear(hidden, shape.key_value_heads * head, bias=False)
        self.v_proj = nn.Linear(hidden, shape.key_value_heads * head, bias=False)
        self.o_proj = nn.Linear(shape.heads * head, hidden, bias=False)
        self.q_norm, self.k_norm = RMSNorm(head), RMSNorm(head)
        self.router = nn.Linear(hidden, shape.experts, bias=False)
        wide = shape.experts * shape.expert_width
        self.expert_gate = nn.Linear(hidden, wide, bias=False)
        self.expert_up = nn.Linear(hidden, wide, bias=False)
        self.expert_down = nn.Linear(wide, hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's output and its load-balancing loss."""
        x = x + self._attend(self.input_layernorm(x), cos, sin)
        mixed, imbalance = self._experts(self.post_attention_layernorm(x))
        return x + mixed, imbalance

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        head = self.shape.head_dim
        query = self.q_norm(self.q_proj(x).reshape(batch, length, -1, head)).transpose(1, 2)
        key = self.k_norm(self.k_proj(x).reshape(batch, length, -1, head)).transpose(1, 2)
        value = self.v_proj(x).reshape(batch, length, -1, head).transpose(1, 2)
        query = rotate(query, cos[:, None], sin[:, None]).to(value.dtype)
        key = rotate(key, cos[:, None], sin[:, None]).to(value.dtype)
        repeats = self.shape.heads // self.shape.key_value_heads
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out

    def _experts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        chances = self.router(x).float().softmax(-1)
        floor = chances.topk(self.shape.experts_used, dim=-1).values[..., -1:]
        chosen = (chances >= floor).float()
        weights = chances * chosen
        weights = weights / weights.sum(-1, keepdim=True)
        hidden = F.silu(self.expert_gate(x)) * self.expert_up(x)
        spread = weights.to(hidden.dtype).repeat_interleave(self.shape.expert_width, dim=-1)
        share = chosen.mean((0, 1)) / self.shape.experts_used
        imbalance = self.shape.experts * (share * chances.mean((0, 1))).sum()
        return self.expert_down(hidden * spread), imbalance


@dataclass(frozen=True, slots=True)
class Outputs:
    """What one pass gives; the patch logits exist in training alone."""

    logits: Tensor  # [batch, length, vocabulary]
    letters: Tensor  # [batch, patches, 2 * letters], left and right half of each patch
    nodes: Tensor  # [batch, patches, words + shapes + colours]
    imbalance: Tensor  # scalar


class Captioner(nn.Module):
    """Patches and token ids to next-token logits."""

    patch_mean: Tensor
    whitening: Tensor

    def __init__(self, shape: Shape, letters: int, node_classes: int) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("patch_mean", torch.zeros(shape.patch_values))
        self.register_buffer("whitening", torch.eye(shape.patch_values))
        self.patch_embed = nn.Linear(shape.patch_values, shape.vision_hidden)
        self.pos_embed = nn.Embedding(shape.position_grid**2, shape.vision_hidden)
        self.blocks = nn.ModuleList(VisionBlock(shape) for _ in range(shape.vision_layers))
        self.merger = Merger(shape, norm_after_merge=False)
        self.deepstack = Merger(shape, norm_after_merge=True)
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(TextLayer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden)
        self.letter_head = nn.Linear(shape.vision_hidden, 2 * letters)
        self.node_norm = nn.LayerNorm(shape.vision_hidden)
        self.node_head = nn.Linear(shape.vision_hidden, node_classes)
        self._start()

    def _start(self) -> None:
        """Small embeddings, and residual branches that begin as nothing."""
        for embedding in (self.pos_embed, self.embed_tokens):
            nn.init.normal_(embedding.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, VisionBlock):
                nn.init.zeros_(module.proj.weight)
                nn.init.zeros_(module.linear_fc2.weight)
            if isinstance(module, TextLayer):
                nn.init.zeros_(module.o_proj.weight)
                nn.init.zeros_(module.expert_down.weight)

    def parameter_kinds(self) -> tuple[list[tuple[nn.Parameter, int]], list[nn.Parameter]]:
        """Matrices, with how many lie stacked in each, and all other parameters."""
        stacks = {"qkv": 3, "expert_gate": self.shape.experts, "expert_up": self.shape.experts}
        plain = ("pos_embed", "embed_tokens", "letter_head", "node_head", "router")
        matrices: list[tuple[nn.Parameter, int]] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            owner = name.split(".")[-2]
            if parameter.ndim == 2 and owner not in plain:
                matrices.append((parameter, stacks.get(owner, 1)))
            else:
                others.append(parameter)
        return matrices, others

    def folded_patch_embed(self) -> tuple[Tensor, Tensor]:
        """Weight and bias that act on plain patches: the whitening is in them."""
        weight = self.patch_embed.weight.float() @ self.whitening
        return weight, self.patch_embed.bias - weight @ self.patch_mean

    def see(
        self, patches: Tensor, tables: GridTables, grid: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image tokens, deepstack tokens and the two patch heads' logits.

        ``patches`` is [batch, patches, values] in -1..1; ``grid`` indexes the tables.
        """
        # Whitened patches need all their digits, whatever autocast says.
        with torch.autocast(patches.device.type, enabled=False):
            weight = self.patch_embed.weight @ self.whitening
            x = F.linear(patches - self.patch_mean, weight, self.patch_embed.bias)
        corners = self.pos_embed(tables.corners[grid])
        x = x + (corners * tables.corner_weights[grid][..., None]).sum(2)
        cos, sin = tables.cos[grid], tables.sin[grid]
        mask = tables.present[grid][:, None, None, :]
        deep = letters = x
        for index, block in enumerate(self.blocks):
            x = block(x, cos, sin, mask)
            if index == self.shape.deepstack_layer:
                deep = self.deepstack(x)
            if index == self.shape.letter_layer:
                letters = self.letter_head(x)
        return self.merger(x), deep, letters, self.node_head(self.node_norm(x))

    def read(
        self, tokens: Tensor, positions: Tensor, slots: Tensor, image: Tensor, deep: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits and load-balancing loss.

        ``positions`` is [batch, 3, length]; ``slots`` says which image token stands at a
        place of the text, -1 for none.
        """
        x = self.embed_tokens(tokens)
        here = (slots >= 0)[..., None]
        pick = slots.clamp(min=0)[..., None].expand(-1, -1, x.shape[-1])
        x = torch.where(here, image.gather(1, pick).to(x.dtype), x)
        added = torch.where(here, deep.gather(1, pick).to(x.dtype), 0.0)
        cos, sin = self._text_angles(positions)
        imbalance = torch.zeros((), device=x.device)
        for index, layer in enumerate(self.layers):
            x, extra = layer(x, cos, sin)
            imbalance = imbalance + extra / len(self.layers)
            if index == 0:
                x = x + added
        return F.linear(self.norm(x), self.embed_tokens.weight), imbalance

    def _text_angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Interleaved M-RoPE: frequencies take time, row and column in turn."""
        head = self.shape.head_dim
        steps = torch.arange(0, head, 2, device=positions.device).float() / head
        frequencies = 1.0 / (self.shape.rope_theta**steps)
        angles = positions[..., None].float() * frequencies
        time, row, column = angles.unbind(1)
        index = torch.arange(head // 2, device=positions.device)
        _, rows, columns = self.shape.mrope_section
        time = torch.where((index % 3 == 1) & (index < 3 * rows), row, time)
        time = torch.where((index % 3 == 2) & (index < 3 * columns), column, time)
        both = torch.cat([time, time], dim=-1)
        return both.cos(), both.sin()

    def forward(
        self,
        patches: Tensor,
        tables: GridTables,
        grid: Tensor,
        tokens: Tensor,
        positions: Tensor,
        slots: Tensor,
    ) -> Outputs:
        """``see``, then ``read``."""
        image, deep, letters, nodes = self.see(patches, tables, grid)
        logits, imbalance = self.read(tokens, positions, slots, image, deep)
        return Outputs(logits, letters, nodes, imbalance)
