"""The Qwen3-VL family, written out where mlx_vlm's own way takes longer than it has to.

Made of the model's public parts, which stay as they are: how a picture comes among the tokens of
its prompt, and a decode step of many rows. Knows nothing of captions, or of what is compiled.

`mlx` and `mlx_vlm` are imported inside functions.
"""

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


def decode_step(
    language_model: Any,
    tokens: Any,
    lengths: Any,
    positions: Any,
    keys: list[Any],
    values: list[Any],
) -> tuple[Any, list[Any], list[Any]]:
    """Logits after one more token of each row, and keys and values with that token in them.

    `tokens`, how many tokens of a row there are (`lengths`) and the M-RoPE position of the new one
    have the shape (rows,), keys and values of a layer (rows, heads, room, width), logits (rows, 1,
    vocabulary). A token of text has the same position on all three axes of M-RoPE, which is
    ordinary RoPE then.
    """
    import mlx.core as mx

    network = language_model.model
    hidden = network.embed_tokens(tokens)[:, None]
    seen = mx.arange(keys[0].shape[2]) <= lengths[:, None]
    mask = mx.where(seen, 0.0, -mx.inf).astype(hidden.dtype)[:, None, None]
    place = lengths[:, None, None, None]
    keys, values = list(keys), list(values)
    for number, layer in enumerate(network.layers):
        attention = layer.self_attn
        queries, key, value = _projected(attention, layer.input_layernorm(hidden), positions)
        keys[number] = mx.put_along_axis(keys[number], place, key, axis=2)
        values[number] = mx.put_along_axis(values[number], place, value, axis=2)
        found = _attended(queries, keys[number], values[number], attention.scale, mask)
        hidden = hidden + attention.o_proj(found)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    hidden = network.norm(hidden)
    tied = language_model.args.tie_word_embeddings
    logits = network.embed_tokens.as_linear(hidden) if tied else language_model.lm_head(hidden)
    return logits, keys, values


def _projected(attention: Any, hidden: Any, positions: Any) -> tuple[Any, Any, Any]:
    """Queries, keys and values of one token a row, each of shape (rows, heads, 1, width)."""
    import mlx.core as mx

    def heads(projected: Any) -> Any:
        return projected.reshape(len(hidden), -1, 1, attention.head_dim)

    def rotated(x: Any) -> Any:
        base = attention.rotary_emb.base
        return mx.fast.rope(
            x, x.shape[-1], traditional=False, base=base, scale=1.0, offset=positions
        )

    queries = rotated(attention.q_norm(heads(attention.q_proj(hidden))))
    keys = rotated(attention.k_norm(heads(attention.k_proj(hidden))))
    return queries, keys, heads(attention.v_proj(hidden))


def _attended(queries: Any, keys: Any, values: Any, scale: float, mask: Any) -> Any:
    """What the rows' queries find, of shape (rows, 1, heads × width).

    The queries that share a head of keys are as many tokens, all with the same mask: MLX's CUDA
    backend has fused attention with a mask for several tokens, but not for one.
    """
    import mlx.core as mx

    rows, heads, _, width = keys.shape
    together = queries.reshape(rows, heads, -1, width)
    found = mx.fast.scaled_dot_product_attention(together, keys, values, scale=scale, mask=mask)
    return found.reshape(rows, 1, -1)
