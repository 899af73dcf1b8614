"""The trained network's weights under the Hub's names for Qwen3-VL mixtures of experts.

Knows both naming schemes and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from network import Captioner, Merger, TextLayer


def _linear(name: str, layer: torch.nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in layer.state_dict().items()}


def _merger(name: str, merger: Merger) -> dict[str, Tensor]:
    return _linear(name, merger)


def _text_layer(name: str, layer: TextLayer) -> dict[str, Tensor]:
    """Experts go to the Hub as [expert, in, out], gate and up side by side."""
    experts, width = layer.shape.experts, layer.shape.expert_width
    gate = layer.expert_gate.weight.reshape(experts, width, -1)
    up = layer.expert_up.weight.reshape(experts, width, -1)
    down = layer.expert_down.weight.reshape(-1, experts, width).permute(1, 2, 0)
    return {
        f"{name}.input_layernorm.weight": layer.input_layernorm.weight,
        f"{name}.post_attention_layernorm.weight": layer.post_attention_layernorm.weight,
        **{
            f"{name}.self_attn.{part}.weight": getattr(layer, part).weight
            for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")
        },
        f"{name}.mlp.gate.weight": layer.router.weight,
        f"{name}.mlp.experts.gate_up_proj": torch.cat([gate, up], dim=1).transpose(1, 2),
        f"{name}.mlp.experts.down_proj": down,
    }


@torch.no_grad()
def hub_state(network: Captioner) -> dict[str, Tensor]:
    """Float32 weights by Hub name; training-only heads are left out.

    The whitening is folded into the patch embedding, whose two time slices take half of
    the weight each, because a still picture is shown to both.
    """
    shape = network.shape
    weight, bias = network.folded_patch_embed()
    weight = weight.reshape(-1, 3, 1, shape.patch, shape.patch).repeat(1, 1, 2, 1, 1) / 2
    vision = "model.visual"
    state = {
        f"{vision}.patch_embed.proj.weight": weight,
        f"{vision}.patch_embed.proj.bias": bias,
        f"{vision}.pos_embed.weight": network.pos_embed.weight,
    }
    for index, block in enumerate(network.blocks):
        name = f"{vision}.blocks.{index}"
        for part in ("norm1", "norm2"):
            state |= _linear(f"{name}.{part}", getattr(block, part))
        for part in ("qkv", "proj"):
            state |= _linear(f"{name}.attn.{part}", getattr(block, part))
        for part in ("linear_fc1", "linear_fc2"):
            state |= _linear(f"{name}.mlp.{part}", getattr(block, part))
    state |= _merger(f"{vision}.merger", network.merger)
    state |= _merger(f"{vision}.deepstack_merger_list.0", network.deepstack)
    text = "model.language_model"
    state[f"{text}.embed_tokens.weight"] = network.embed_tokens.weight
    state[f"{text}.norm.weight"] = network.norm.weight
    for index, layer in enumerate(network.layers):
        assert isinstance(layer, TextLayer)
        state |= _text_layer(f"{text}.layers.{index}", layer)
    return {name: value.detach().float().cpu().contiguous() for name, value in state.items()}
