"""One picture that is looked at once, for several questions about it.

The prompts begin with the same tokens, those of the picture among them, where a chat template puts
the picture before the text. So its features are computed once, and put before the embeddings of
each question's own tokens; one at a time, the keys and values of that beginning are shared as well.
Everything here runs on the device's thread, but for `other_prompts`; `mlx` is imported inside
functions. Knows nothing of answers.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from captioner.device.encoding import Beginning, Encoded, Prepared, encode

# What is known of the arrays that a model makes of a prompt; with others nothing is shared.
ALONG_THE_TOKENS = {"inputs_embeds", "position_ids", "visual_pos_masks"}
OF_THE_PICTURE = {"deepstack_visual_embeds", "rope_deltas"}


class Look:
    """A picture with all that is to be asked about it."""

    def __init__(self, model: Any, prepared: Sequence[Prepared], shared: bool) -> None:
        """`shared` says that the model's family is known to answer the same that way."""
        self._model = model
        tokens = shared_tokens([one.arrays["input_ids"] for one in prepared]) if shared else 0
        whole = tokens and 0 < prepared[0].picture_end < tokens
        self._beginning = Beginning(tokens) if whole else None
        self._first: Encoded | None = None

    def encode(self, prepared: Prepared) -> Encoded:
        """One of the prompts with the picture, which is seen only for the first of them."""
        if self._beginning is None:
            return encode(self._model, prepared)
        if self._first is None:
            encoded = encode(self._model, prepared)
            if not _made(encoded.features).keys() <= ALONG_THE_TOKENS | OF_THE_PICTURE:
                self._beginning = None
                return encoded
            self._first = replace(encoded, beginning=self._beginning)
            return self._first
        return _another(self._model, self._first, self._beginning, prepared)


def shared_tokens(prompts: Sequence[Any]) -> int:
    """How many tokens all prompts begin with, but for the last token of each; 0 for one prompt.

    Each prompt has the shape (1, tokens).
    """
    if len(prompts) < 2:
        return 0
    least = min(prompt.shape[1] for prompt in prompts) - 1
    first = prompts[0][0, :least]
    same = np.all([prompt[0, :least] == first for prompt in prompts[1:]], axis=0)
    return int(least if same.all() else same.argmin())


def other_prompts(first: Prepared, texts: Sequence[str], tokenize: Any, image: int) -> list[Any]:
    """Token ids of the prompts `texts`, of which the first was prepared with the picture; empty
    where they cannot be had without preparing the picture again.

    `image` is the token that stands for the picture in a text, and, as often as the picture has
    tokens, in a prompt.
    """
    ids = [np.array(tokenize(text)) for text in texts]
    if any((each == image).sum() != 1 for each in ids):
        return []
    there = [int((each == image).argmax()) for each in ids]
    prompts = [
        np.concatenate([each[:at], np.full(first.image_tokens, image), each[at + 1 :]])
        for each, at in zip(ids, there, strict=True)
    ]
    whole = first.arrays["input_ids"]
    others = {name for name, value in first.arrays.items() if np.shape(value) == whole.shape}
    if not np.array_equal(prompts[0], whole[0]) or others - {"input_ids", "attention_mask"}:
        return []
    return [prompt.astype(whole.dtype)[None] for prompt in prompts[1:]]


def asking(first: Prepared, ids: Any) -> Prepared:
    """The picture of `first` with another prompt, whose token ids have the shape (1, tokens)."""
    arrays = first.arrays | {"input_ids": ids}
    if "attention_mask" in arrays:
        arrays["attention_mask"] = np.ones(ids.shape, arrays["attention_mask"].dtype)
    return replace(first, arrays=arrays)


def _another(model: Any, first: Encoded, beginning: Beginning, prepared: Prepared) -> Encoded:
    """What encoding the prompt would give, by what encoding the first one gave."""
    import mlx.core as mx
    from mlx_vlm.generate import generation_stream

    with mx.stream(generation_stream):
        ids = mx.array(prepared.arrays["input_ids"])
        kept, own = beginning.tokens, ids[:, beginning.tokens :]
        text = model.get_input_embeddings(own, None).inputs_embeds
        made = _made(first.features)
        made["inputs_embeds"] = mx.concatenate([made["inputs_embeds"][:, :kept], text], axis=1)
        if (positions := made.get("position_ids")) is not None:
            # text: one further with each token, from that of the last token before it
            further = positions[..., kept - 1 : kept] + mx.arange(1, own.shape[1] + 1)
            made["position_ids"] = mx.concatenate(
                [positions[..., :kept], further.astype(positions.dtype)], axis=-1
            )
        if (seen := made.get("visual_pos_masks")) is not None:
            none = mx.zeros((*seen.shape[:-1], own.shape[1]), seen.dtype)
            made["visual_pos_masks"] = mx.concatenate([seen[..., :kept], none], axis=-1)
        mx.eval(list(made.values()))
    mask = None if first.mask is None else mx.ones(ids.shape, first.mask.dtype)
    features = type(first.features)(**made)
    return Encoded(ids, mask, first.rest, features, beginning)


def _made(features: Any) -> dict[str, Any]:
    return {name: value for name, value in features.to_dict().items() if value is not None}
