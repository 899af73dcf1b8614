"""The Qwen3-VL family, written out where mlx_vlm's own way takes longer than it has to.

Made of the model's public parts: how a picture comes among the tokens of its prompt, which logits
a prompt needs, and a decode step of many rows. Knows nothing of captions, or of what is compiled.

`mlx` and `mlx_vlm` are imported inside functions.
"""

from collections.abc import Callable
from copy import copy
from itertools import accumulate
from typing import Any


def embeddings(model: Any, ids: Any, pixels: Any, mask: Any, more: Any, picture: slice) -> Any:
    """What `model.get_input_embeddings` makes of a prompt with one picture.

    `ids` has the shape (1, tokens), and those of the picture stand in `picture`. mlx_vlm 0.7.10
    puts each number of the features in its place by an index that goes through numpy: five million
    for a full-HD picture. They stand in a row, so that one piece takes the place of another.
    """
    import mlx.core as mx
    from mlx_vlm.models.base import InputEmbeddingsFeatures

    tower, language_model = model.vision_tower, model.language_model
    grid = more["image_grid_thw"]
    seen, deepstack = tower(pixels.astype(tower.patch_embed.proj.weight.dtype), grid)
    text = language_model.model.embed_tokens(ids)
    pieces = [text[:, : picture.start], seen[None].astype(text.dtype), text[:, picture.stop :]]
    position_ids, rope_deltas = language_model.get_rope_index(ids, grid, None, mask)
    return InputEmbeddingsFeatures(
        inputs_embeds=mx.concatenate(pieces, axis=1),
        visual_pos_masks=ids == model.config.image_token_index,
        deepstack_visual_embeds=deepstack,
        position_ids=position_ids,
        rope_deltas=rope_deltas,
    )


def through_blocks(tower: Any, patches: Any, angles: Any) -> tuple[Any, list[Any]]:
    """What the blocks of the vision tower make of one picture: its features, and those for the
    first layers of the language model.

    `patches`, embedded, have the shape (patches, width), `angles` half as many columns as a head.
    """
    import mlx.core as mx

    cos, sin = (mx.concatenate([half, half], axis=-1) for half in (mx.cos(angles), mx.sin(angles)))

    def rotated(x: Any) -> Any:
        first, second = mx.split(x.astype(mx.float32), 2, axis=-1)
        whole = mx.concatenate([first, second], axis=-1) * cos
        return (whole + mx.concatenate([-second, first], axis=-1) * sin).astype(x.dtype)[None]

    deepstack = []
    for number, block in enumerate(tower.blocks):
        attention = block.attn
        projected = attention.qkv(block.norm1(patches))
        shape = (len(patches), 3, attention.num_heads, attention.head_dim)
        queries, keys, values = projected.reshape(shape).transpose(1, 2, 0, 3)
        found = mx.fast.scaled_dot_product_attention(
            rotated(queries), rotated(keys), values[None], scale=attention.scale
        )
        patches = patches + attention.proj(found[0].swapaxes(0, 1).reshape(patches.shape))
        patches = patches + block.mlp(block.norm2(patches))
        if number in tower.deepstack_visual_indexes:
            place = tower.deepstack_visual_indexes.index(number)
            deepstack.append(tower.deepstack_merger_list[place](patches))
    return tower.merger(patches), deepstack


def after_prompt(language_model: Any, ids: Any, inputs_embeds: Any, cache: Any, **more: Any) -> Any:
    """Logits after a whole prompt, of shape (1, 1, vocabulary), and the prompt in `cache`.

    Those of its other tokens are not made, so that it goes through the layers in one piece, and
    needs no second pass for its last token.
    """
    asked = ("position_ids", "visual_pos_masks", "deepstack_visual_embeds")
    given = {name: more[name] for name in asked if name in more}
    hidden = language_model.model(ids, inputs_embeds=inputs_embeds, cache=cache, **given)
    return _logits(language_model, hidden[:, -1:])


class DecodeStep:
    """One more token of each row of a batch."""

    def __init__(self, language_model: Any) -> None:
        """Layers with one input become one product; they keep their weights, as pieces of it."""
        self._language_model = language_model
        self._layers = []
        for layer in language_model.model.layers:
            seen, mlp = layer.self_attn, layer.mlp
            of_tokens = together([seen.q_proj, seen.k_proj, seen.v_proj])
            dense = hasattr(mlp, "gate_proj")  # otherwise experts
            of_mlp = together([mlp.gate_proj, mlp.up_proj]) if dense else None
            self._layers.append((layer, of_tokens, of_mlp))

    def __call__(
        self, tokens: Any, lengths: Any, positions: Any, keys: list[Any], values: list[Any]
    ) -> tuple[Any, list[Any], list[Any]]:
        """Logits after one more token of each row, and keys and values with that token in them.

        `tokens`, how many tokens of a row there are (`lengths`) and the M-RoPE position of the new
        one have the shape (rows,), keys and values of a layer (rows, heads, room, width), logits
        (rows, 1, vocabulary). A token of text has the same position on all three axes of M-RoPE,
        which is ordinary RoPE then.
        """
        import mlx.core as mx
        from mlx import nn

        network = self._language_model.model
        hidden = network.embed_tokens(tokens)[:, None]
        mask = _mask(network.layers[0].self_attn, lengths, keys[0].shape[2], hidden.dtype)
        place = lengths[:, None, None, None]
        keys, values = list(keys), list(values)
        for number, (layer, of_tokens, of_mlp) in enumerate(self._layers):
            attention = layer.self_attn
            projected = of_tokens(layer.input_layernorm(hidden))
            queries, key, value = _heads(attention, projected, positions)
            keys[number] = mx.put_along_axis(keys[number], place, key, axis=2)
            values[number] = mx.put_along_axis(values[number], place, value, axis=2)
            found = _attended(queries, keys[number], values[number], attention.scale, mask)
            hidden = hidden + attention.o_proj(found)
            normed = layer.post_attention_layernorm(hidden)
            if of_mlp:
                gate, up = of_mlp(normed)
                hidden = hidden + layer.mlp.down_proj(nn.silu(gate) * up)
            else:
                hidden = hidden + layer.mlp(normed)
        return _logits(self._language_model, network.norm(hidden)), keys, values


def _logits(language_model: Any, hidden: Any) -> Any:
    if language_model.args.tie_word_embeddings:
        return language_model.model.embed_tokens.as_linear(hidden)
    return language_model.lm_head(hidden)


def together(layers: list[Any]) -> Callable[[Any], list[Any]]:
    """What the layers make of one input, as one product where they are alike.

    A step of few rows takes its time by the number of products, not by their size.
    """
    import mlx.core as mx

    quantised = ("bits", "group_size", "mode")
    kinds = {
        (type(layer), *(getattr(layer, name, None) for name in quantised), *sorted(layer))
        for layer in layers
    }
    if len(kinds) > 1:
        return lambda x: [layer(x) for layer in layers]
    whole = copy(layers[0])
    ends = list(accumulate(len(layer.weight) for layer in layers))
    for name in list(whole):
        whole[name] = mx.concatenate([layer[name] for layer in layers])
        for layer, end in zip(layers, ends, strict=True):
            layer[name] = whole[name][end - len(layer[name]) : end]
    mx.eval(whole.parameters(), [layer.parameters() for layer in layers])
    return lambda x: list(mx.split(whole(x), ends[:-1], axis=-1))


def _mask(attention: Any, lengths: Any, room: int, dtype: Any) -> Any:
    """What each row sees, of shape (rows, heads of keys, queries of each, room); whole, since a
    mask that is repeated for each head by its strides took a quarter of a step longer."""
    import mlx.core as mx

    seen = mx.where(mx.arange(room) <= lengths[:, None], 0.0, -mx.inf).astype(dtype)
    heads = attention.n_kv_heads
    shape = (len(lengths), heads, attention.n_heads // heads, room)
    return mx.contiguous(mx.broadcast_to(seen[:, None, None], shape))


def _heads(attention: Any, projected: list[Any], positions: Any) -> tuple[Any, Any, Any]:
    """Queries, keys and values of one token a row, each of shape (rows, heads, 1, width)."""
    import mlx.core as mx

    def rotated(x: Any) -> Any:
        base = attention.rotary_emb.base
        return mx.fast.rope(
            x, x.shape[-1], traditional=False, base=base, scale=1.0, offset=positions
        )

    shape = (len(positions), -1, 1, attention.head_dim)
    queries, keys, values = (each.reshape(shape) for each in projected)
    return rotated(attention.q_norm(queries)), rotated(attention.k_norm(keys)), values


def _attended(queries: Any, keys: Any, values: Any, scale: float, mask: Any) -> Any:
    """What the rows' queries find, of shape (rows, 1, heads × width).

    The queries that share a head of keys are as many tokens, all with the same mask: MLX's CUDA
    backend has fused attention with a mask for several tokens, but not for one.
    """
    import mlx.core as mx

    rows, heads, _, width = keys.shape
    as_tokens = queries.reshape(rows, heads, -1, width)
    found = mx.fast.scaled_dot_product_attention(as_tokens, keys, values, scale=scale, mask=mask)
    return found.reshape(rows, 1, -1)
