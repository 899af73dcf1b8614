"""Answers that are held to a JSON Schema while they are generated, token by token.

llguidance says which tokens may come next, and MLX takes the others out of the logits: the same way
on Metal, on CUDA and on a CPU. Knows nothing of pictures, or of what an answer is for.
"""

from functools import lru_cache
from typing import Any

from captioner.answers import grammar_of
from captioner.errors import CaptionError, first_line


class Grammars:
    """What a tokenizer and its end of text make of schemas. Used on the device's thread alone."""

    def __init__(self, tokenizer: Any, ends: int | list[int] | None) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._begun = lru_cache(8)(self._begin)

    def holding(self, schema: str) -> "Held":
        """A logits processor for one answer.

        Raises:
            CaptionError: the tokenizer cannot be used for it, or the schema is too much for it.
        """
        return Held(self._begun(schema).deep_copy(), self._words.vocab_size)

    def text(self, tokens: list[int]) -> str:
        """What the tokens of an answer say, to the letter as the grammar has read them."""
        return str(self._words.decode_str(tokens))

    def _begin(self, schema: str) -> Any:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._words, grammar_of(schema))
        if why := matcher.get_error():
            raise CaptionError(f"no answer can be held to the schema: {first_line(Exception(why))}")
        return matcher

    @property
    def _words(self) -> Any:
        if not hasattr(self, "_made"):
            self._made = self._make()
        return self._made

    def _make(self) -> Any:
        from llguidance.hf import from_tokenizer

        try:
            return from_tokenizer(self._tokenizer, eos_token=self._ends)
        except Exception as error:
            raise CaptionError(
                "no answer of this model can be held to a schema, since its tokenizer is none of "
                f"Hugging Face's fast ones: {first_line(error)}"
            ) from error


class Held:
    """Takes out of one row's logits what its grammar does not allow next; once the answer is whole,
    all but the end of text.

    mlx-vlm calls it once with the prompt, and then once after each token.
    """

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        from llguidance.numpy import allocate_token_bitmask

        self._matcher = matcher
        self._bits = allocate_token_bitmask(1, vocabulary)
        self._answering = False

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """The logits, shape (1, vocabulary), after all `tokens`."""
        return self.process_last_token(int(tokens[-1].item()) if self._answering else 0, logits)

    def process_last_token(self, token: int, logits: Any) -> Any:
        """The same, by the name under which BatchGenerator spares building the token array."""
        import mlx.core as mx
        from llguidance.numpy import fill_next_token_bitmask

        if self._answering and not self._matcher.consume_token(token):
            raise ValueError(f"the schema's grammar stopped: {self._matcher.get_error()}")
        self._answering = True
        fill_next_token_bitmask(self._matcher, self._bits)
        return mx.where(_unpacked(self._bits[0], logits.shape[-1]), logits, -mx.inf)


def _unpacked(bits: Any, vocabulary: int) -> Any:
    """Of 32 bits a word, least significant first: which of the `vocabulary` are set."""
    import mlx.core as mx

    allowed = ((mx.array(bits)[:, None] >> mx.arange(32)) & 1).astype(mx.bool_).reshape(-1)
    if len(allowed) < vocabulary:  # ids beyond the tokenizer's, which checkpoints pad with
        allowed = mx.pad(allowed, (0, vocabulary - len(allowed)))
    return allowed[:vocabulary]
