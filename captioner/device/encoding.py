"""Pictures on their way into the model: as numpy arrays, and what the vision tower makes of them.

Knows nothing of captions, queues or files. `mlx` is imported inside functions.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from captioner.device.families import WRITTEN_OUT
from captioner.device.qwen3_vl import embeddings

PIXELS = "pixel_values"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the model takes: token ids, patches and whatever its processor adds.

    MLX's arrays are numpy's here, also in lists, but for the patches; all else is as the processor
    made it.
    """

    arrays: dict[str, Any]
    image_tokens: int
    width: int  # pixels, as the model sees the picture
    height: int
    picture_end: int = 0  # how many tokens there are up to the end of the picture; 0: not known

    @property
    def prompt_tokens(self) -> int:
        """How many tokens are prefilled, those of the picture included."""
        return int(self.arrays["input_ids"].size)


class PreparedLater:
    """A picture that is prepared by the thread that first looks at it."""

    def __init__(self, make: Callable[[], Prepared]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Prepared:
        made = self._make()
        del self._make  # and the picture with it
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


class Beginning:
    """The tokens that several prompts about one picture begin with, the picture among them.

    The first of them to be prefilled leaves its caches here, and the others go on from there.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._caches: list[Any] | None = None  # of the language model, after these tokens

    @property
    def done(self) -> int:
        """How many tokens of a prompt need not be prefilled any more."""
        return self.tokens if self._caches else 0

    def of_a_prompt(self) -> dict[str, Any]:
        """What `mlx_vlm.generate.generate_step` is to be given for the next prompt."""
        if self._caches:
            return {"prompt_cache": deepcopy(self._caches)}
        return {"prompt_cache_checkpoint": self._keep, "prompt_cache_checkpoint_len": self.tokens}

    def _keep(self, _tokens: int, caches: list[Any]) -> None:
        self._caches = deepcopy(caches)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt with its picture as the language model takes it, computed, in MLX arrays."""

    ids: Any
    mask: Any
    rest: dict[str, Any]  # what else the processor made
    features: Any  # mlx_vlm's InputEmbeddingsFeatures
    beginning: Beginning | None = None  # what it shares with other prompts

    def after(self, tokens: int) -> "Encoded":
        """The same for a language model that has read so many tokens of it already.

        All but the embeddings stay whole: the model finds its place in them by its caches.
        """
        embeddings = self.features.inputs_embeds[:, tokens:]
        return replace(self, features=replace(self.features, inputs_embeds=embeddings))


def as_mlx(prepared: Prepared) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Token ids, pixels, attention mask and the rest, as MLX arrays."""
    arrays = {name: _in_mlx(value) for name, value in prepared.arrays.items()}
    ids, mask = arrays.pop("input_ids"), arrays.pop("attention_mask", None)
    return ids, arrays.pop(PIXELS, None), mask, arrays


def handed_on(name: str, value: Any) -> Any:
    """What the processor made, for another thread: in numpy, or in MLX and computed.

    The patches are 50 MB for a picture of two megapixels, and each copy of them keeps all other
    threads waiting.
    """
    import mlx.core as mx

    if name != PIXELS:
        return _in_numpy(value)
    mx.eval(value)  # nothing is left to be done, unless it is numpy's, which is let through
    return value


def _in_numpy(value: Any) -> Any:
    """The value with numpy's arrays in place of MLX's, also in lists."""
    import mlx.core as mx

    if isinstance(value, list | tuple):
        return type(value)(_in_numpy(each) for each in value)
    return np.array(value) if isinstance(value, mx.array) else value


def _in_mlx(value: Any) -> Any:
    import mlx.core as mx

    if isinstance(value, list | tuple):
        return type(value)(_in_mlx(each) for each in value)
    return mx.array(value) if isinstance(value, np.ndarray) else value


def encode(model: Any, prepared: Prepared) -> Encoded:
    """Run the vision tower to its end."""
    import mlx.core as mx
    from mlx_vlm.generate import generation_stream

    ids, pixels, mask, rest = as_mlx(prepared)
    picture = _alone(prepared, model.config)
    with mx.stream(generation_stream):
        if picture:
            features = embeddings(model, ids, pixels, mask, rest, picture)
        else:
            features = model.get_input_embeddings(ids, pixels, mask=mask, **rest)
        mx.eval([value for value in features.to_dict().values() if value is not None])
    return Encoded(ids, mask, rest, features)


def _alone(prepared: Prepared, config: Any) -> slice | None:
    """Where the tokens of the picture are, if `embeddings` can put it there: in one piece, and with
    no place for a video in the prompt, which mlx_vlm has its own error for."""
    if config.model_type not in WRITTEN_OUT or not prepared.picture_end:
        return None
    ids = prepared.arrays["input_ids"][0]
    place = slice(prepared.picture_end - prepared.image_tokens, prepared.picture_end)
    whole = (ids[place] == config.image_token_index).all()
    return place if whole and (ids != config.video_token_index).all() else None
