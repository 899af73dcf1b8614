"""Chance in captions, so that a row of a batch is what it would be alone.

Everything here runs on the device's thread; `mlx` is imported inside functions. Knows nothing of
rows, or of how tokens are made.
"""

import hashlib
from typing import Any

import numpy as np

from captioner.device.encoding import Prepared


class GumbelNoise:
    """Samples a row by itself: noise that depends on the seed, the picture and the position.

    The most likely token of `log p / temperature + Gumbel noise` is a sample of `p` at that
    temperature (the Gumbel-max trick), so a greedy batch samples each of its rows alone.
    """

    def __init__(
        self, prepared: Prepared, temperature: float, seed: int, top_p: float, top_k: int
    ) -> None:
        self._temperature = temperature
        self._top_p, self._top_k = top_p, top_k
        pixels = prepared.arrays.get("pixel_values", prepared.arrays["input_ids"])
        self._digest = hashlib.blake2b(digest_size=16)
        for each in pixels if isinstance(pixels, list) else [pixels]:
            self._digest.update(np.ascontiguousarray(each).data)
        self._digest.update(str(seed).encode())
        self._position = 0

    def __call__(self, _tokens: Any, logits: Any) -> Any:
        """The logits with noise, shape (1, vocabulary)."""
        return self.process_last_token(0, logits)

    def process_last_token(self, _token: int, logits: Any) -> Any:
        """The same, by the name under which BatchGenerator spares building the token array."""
        import mlx.core as mx
        from mlx_vlm.sample_utils import apply_top_k, apply_top_p

        logprobs = logits.astype(mx.float32)
        logprobs = logprobs - mx.logsumexp(logprobs, axis=-1, keepdims=True)
        if 0 < self._top_p < 1:
            logprobs = apply_top_p(logprobs, self._top_p)
        if self._top_k > 0:
            logprobs = apply_top_k(logprobs, self._top_k)
        digest = self._digest.copy()
        digest.update(self._position.to_bytes(4, "little"))
        self._position += 1
        key = mx.random.key(int.from_bytes(digest.digest()[:8], "little"))
        return logprobs / self._temperature + mx.random.gumbel(logprobs.shape, key=key)


def noise(config: Any, prepared: Prepared, temperature: float, seed: int) -> list[Any]:
    """The logits processors that sample: none at a temperature of 0.

    Top-p and top-k are those of the checkpoint's generation config, which mlx-vlm adds to `config`.
    """
    if temperature == 0:
        return []
    top_p, top_k = getattr(config, "top_p", None), getattr(config, "top_k", None)
    top_p, top_k = 1.0 if top_p is None else top_p, 0 if top_k is None else top_k
    return [GumbelNoise(prepared, temperature, seed, top_p, top_k)]
