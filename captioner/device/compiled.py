"""Decode steps that are compiled: Python makes the graph of a step once, not for each token.

A compiled step wants arrays that keep their shapes. So each row has a slot of its own in arrays
that grow now and then, and a row that joins or leaves moves no other. Knows nothing of captions.

`mlx` and `mlx_vlm` are imported inside functions.
"""

from functools import partial
from typing import Any

from captioner.device.qwen3_vl import DecodeStep, after_prompt, through_blocks

STEP = 256  # tokens by which a slot grows


class SlotCache:
    """The keys and values of one layer: of one prompt in prefill, then of a row in each slot.

    Arrays of shape (slots, heads, tokens, width). `BatchGenerator` calls what it calls of
    mlx_vlm's own caches.
    """

    def __init__(self, most: int = 1) -> None:
        """`most` is how many slots there will be: all at once, or each number of them would be a
        shape of its own, to be compiled."""
        self.keys: Any = None
        self.values: Any = None
        self._most = most
        self.slots = [0]  # of each row
        self.lengths = [0]  # tokens in each slot
        self.shifts = [0]  # from the number of a token to its M-RoPE position, in each slot

    @property
    def offset(self) -> int:
        """How many tokens of the one prompt are in."""
        return self.lengths[0]

    @property
    def state(self) -> tuple[Any, Any]:
        """What has to be computed."""
        return self.keys, self.values

    def make_mask(self, tokens: int, **_: Any) -> str | None:
        """Which tokens those of a prompt see."""
        return "causal" if tokens > 1 else None

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Add tokens to the one prompt; all that it has."""
        import mlx.core as mx

        start, end = self.lengths[0], self.lengths[0] + keys.shape[2]
        if self.keys is None:
            self.keys = mx.zeros((1, keys.shape[1], 0, keys.shape[3]), keys.dtype)
            self.values = mx.zeros((1, values.shape[1], 0, values.shape[3]), values.dtype)
        self._fit(end)
        self.keys[..., start:end, :] = keys
        self.values[..., start:end, :] = values
        self.lengths[0] = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def extend(self, other: "SlotCache") -> None:
        """Let the rows of `other` join."""
        self._add_slots()
        self._fit(max(*self.lengths, *other.lengths) + 1)
        other._fit(max(*self.lengths, *other.lengths) + 1)
        for slot in other.slots:
            mine = self._free_slot()
            self.keys[mine] = other.keys[slot]
            self.values[mine] = other.values[slot]
            self.lengths[mine], self.shifts[mine] = other.lengths[slot], other.shifts[slot]
            self.slots.append(mine)

    def filter(self, keep: Any) -> None:
        """Keep the rows of these numbers alone."""
        kept = [self.slots[number] for number in keep.tolist()]
        for slot in set(self.slots) - set(kept):
            self.lengths[slot] = 0
        self.slots = kept

    def _free_slot(self) -> int:
        return next(n for n in range(len(self.lengths)) if n not in self.slots)

    def _add_slots(self) -> None:
        import mlx.core as mx

        if more := self._most - len(self.lengths):
            shape = (more, *self.keys.shape[1:])
            self.keys = mx.concatenate([self.keys, mx.zeros(shape, self.keys.dtype)])
            self.values = mx.concatenate([self.values, mx.zeros(shape, self.values.dtype)])
            self.lengths += [0] * more
            self.shifts += [0] * more

    def make_room(self) -> None:
        """For one more token in each slot."""
        self._add_slots()
        if max(self.lengths) >= self.keys.shape[2]:
            self._fit(max(self.lengths) + 1)

    def _fit(self, tokens: int) -> None:
        """Slots of so many tokens at least, and hardly more."""
        import mlx.core as mx

        size, wanted = self.keys.shape[2], -(-tokens // STEP) * STEP
        if wanted < size:
            self.keys, self.values = self.keys[:, :, :wanted], self.values[:, :, :wanted]
        elif wanted > size:
            more = [(0, 0), (0, 0), (0, wanted - size), (0, 0)]
            self.keys, self.values = mx.pad(self.keys, more), mx.pad(self.values, more)


class CompiledSteps:
    """A language model of the Qwen3-VL family whose decode steps are compiled."""

    tokens_at_once = None  # of a prompt: all

    def __init__(self, language_model: Any) -> None:
        import mlx.core as mx

        self.most = 1  # rows that there may be
        self._language_model = language_model
        self._step = mx.compile(DecodeStep(language_model))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._language_model, name)

    def make_cache(self) -> list[SlotCache]:
        """A cache for each layer."""
        return [SlotCache(self.most) for _ in self._language_model.layers]

    def __call__(
        self, inputs: Any, inputs_embeds: Any = None, cache: Any = None, **more: Any
    ) -> Any:
        """Prefill, where embeddings are given; otherwise a decode step of all rows in `cache`."""
        from mlx_vlm.models.base import LanguageModelOutput

        if inputs_embeds is None:
            return self._decode(inputs, cache)
        if not cache[0].offset:
            shift = int(more["rope_deltas"].item())
            for layer in cache:
                layer.shifts = [shift]
        if more["position_ids"].shape[-1] == inputs.shape[1]:  # the whole prompt
            logits = after_prompt(self._language_model, inputs, inputs_embeds, cache, **more)
            return LanguageModelOutput(logits=logits)
        return self._language_model(inputs, inputs_embeds=inputs_embeds, cache=cache, **more)

    def _decode(self, inputs: Any, cache: list[SlotCache]) -> Any:
        import mlx.core as mx
        from mlx_vlm.models.base import LanguageModelOutput

        for layer in cache:
            layer.make_room()
        first = cache[0]
        row_of = {slot: row for row, slot in enumerate(first.slots)}
        number = len(first.lengths)
        rows = mx.array([row_of.get(slot, 0) for slot in range(number)])
        positions = [a + b for a, b in zip(first.lengths, first.shifts, strict=True)]
        logits, keys, values = self._step(
            inputs[rows, 0],
            mx.array(first.lengths),
            mx.array(positions),
            [layer.keys for layer in cache],
            [layer.values for layer in cache],
        )
        for layer, layer.keys, layer.values in zip(cache, keys, values, strict=True):
            for slot in layer.slots:
                layer.lengths[slot] += 1
        return LanguageModelOutput(logits=logits[mx.array(first.slots)])


def compile_blocks(tower: Any) -> None:
    """Let the vision tower of a Qwen3-VL run its blocks compiled.

    Its own way asks the GPU three times a block for what is always the same, and rotates in eight
    passes over memory. Each size of a picture is compiled once, in 12 to 25 ms.
    """
    import mlx.core as mx

    family = type(tower)

    class CompiledTower(family):  # type: ignore[misc, valid-type]
        def __call__(self, pixels: Any, grid: Any, **more: Any) -> Any:
            if grid.shape[0] > 1:
                return super().__call__(pixels, grid, **more)
            patches = self.patch_embed(pixels) + self.fast_pos_embed_interpolate(grid)
            return self._blocks(patches, self.rot_pos_emb(grid))

    tower._blocks = mx.compile(partial(through_blocks, tower))
    tower.__class__ = CompiledTower  # the same weights
