"""Captions while they are generated in MLX: one at a time, or several in a continuous batch.

Everything here runs on the device's thread; `mlx` and `mlx_vlm` are imported inside functions.
Knows nothing of files or of how prompts are made.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from captioner.answers import questions
from captioner.device.encoding import Encoded, Prepared
from captioner.device.repetition import Loop, LoopDetector
from captioner.records import Asked
from captioner.settings import Settings

# A greedy caption that is stuck would be stuck again: each further attempt samples more freely.
RETRY_TEMPERATURES = (0.4, 0.8)
PREFILL_STEP_SIZE = 4096  # tokens at once: a full-HD picture and its prompt are a little over 2,048


@dataclass(frozen=True, slots=True)
class Request:
    """How to caption one picture."""

    user_prompt: str
    system_prompt: str | None
    max_tokens: int
    temperature: float
    seed: int = 0
    schema: str | None = None  # that the answer is held to, as JSON
    ask: tuple[str, ...] = ()  # further questions in the same look, each as NAME=PROMPT
    banned: tuple[str, ...] = ()  # phrases of which no answer is to hold any
    openings: tuple[str, ...] = ()  # that are removed from the caption

    @classmethod
    def of(cls, settings: Settings, asked: Asked) -> Self:
        """What the settings ask for, and that about the picture."""
        return cls(
            asked.user_prompt,
            asked.system_prompt,
            settings.max_tokens,
            settings.temperature,
            settings.seed,
            settings.answer_schema,
            asked.ask,
            settings.banned_phrase,
            settings.remove_openings,
        )

    def each(self) -> dict[str, "Request"]:
        """Every question by the name of its field, the caption's first and without a name."""
        asked = {
            name: replace(self, user_prompt=prompt, schema=None, ask=(), openings=())
            for name, prompt in questions(self.ask)
        }
        return {"": replace(self, ask=())} | asked

    def again(self, attempts: int) -> "Request | None":
        """How to try once more after that many attempts got stuck; None when enough were made."""
        if attempts > len(RETRY_TEMPERATURES):
            return None
        temperature = max(self.temperature, RETRY_TEMPERATURES[attempts - 1])
        return replace(self, temperature=temperature, seed=self.seed + attempts)


@dataclass(eq=False, slots=True)
class Row:
    """One caption that is being generated."""

    prepared: Prepared
    request: Request
    tokens: list[int] = field(default_factory=list)
    finish_reason: str = ""  # empty while it is being generated
    loop: Loop | None = None  # the repetition that it was stuck in
    detector: LoopDetector = field(default_factory=LoopDetector)
    began: float = field(default_factory=time.perf_counter)
    prefilled: float = 0.0
    done: float = 0.0

    def add(self, token: int, finish_reason: str | None) -> None:
        """Take one more token; the last one has a finish reason, or shows that it is stuck."""
        now = time.perf_counter()
        self.prefilled = self.prefilled or now
        self.tokens.append(token)
        if finish_reason != "stop":
            self.loop = self.detector.add(token)
            if finish_reason == "length":
                self.loop = self.loop or self.detector.cut()
        if self.loop:
            finish_reason = "loop"
        if finish_reason:
            self.finish_reason, self.done = finish_reason, now


Processors = Callable[[Row], list[Any]]  # of a row's logits, made anew for it


class Rows(Protocol):
    """Captions that are being generated together."""

    def add(self, row: Row, encoded: Encoded) -> None:
        """Begin one more row, whose picture was `encoded`."""

    def step(self) -> list[Row]:
        """One decode step; the rows that it finished."""

    def __len__(self) -> int:
        """How many rows are being generated."""


class OneRow:
    """One caption at a time, as `mlx_vlm.generate` does it."""

    def __init__(
        self, model: Any, language_model: Any, is_end: Any, processors: Processors
    ) -> None:
        self._model, self._language_model = model, language_model
        self._is_end = is_end
        self._processors = processors
        self._row: Row | None = None
        self._tokens: Iterator[tuple[int, Any]] = iter(())

    def __len__(self) -> int:
        return 0 if self._row is None else 1

    def add(self, row: Row, encoded: Encoded) -> None:
        """Begin the row."""
        from mlx_vlm.generate import generate_step

        self._row = row
        begun = encoded.beginning.of_a_prompt() if encoded.beginning else {}
        done = encoded.beginning.done if encoded.beginning else 0
        self._tokens = generate_step(
            encoded.ids[:, done:],
            _AlreadyEncoded(self._model, self._language_model, encoded.after(done)),
            None,
            encoded.mask,
            max_tokens=row.request.max_tokens,
            temperature=0.0,
            logits_processors=self._processors(row),
            prefill_step_size=PREFILL_STEP_SIZE
            if encoded.beginning  # whose end is the end of a piece
            else self._language_model.tokens_at_once,
            **encoded.rest,
            **begun,
        )

    def step(self) -> list[Row]:
        """One decode step; the row if that finished it."""
        if self._row is None:
            return []
        row = self._row
        try:
            token, _ = next(self._tokens)
        except BaseException:
            self._clear()
            raise
        last = len(row.tokens) + 1 >= row.request.max_tokens
        row.add(token, "stop" if self._is_end(token) else "length" if last else None)
        if not row.finish_reason:
            return []
        self._clear()
        return [row]

    def _clear(self) -> None:
        import mlx.core as mx

        self._row = None
        self._tokens = iter(())
        mx.clear_cache()


class _AlreadyEncoded:
    """A model that has seen the picture: `generate_step` asks it to encode, and gets what is."""

    def __init__(self, model: Any, language_model: Any, encoded: Encoded) -> None:
        self._model, self.language_model = model, language_model
        self._encoded: Encoded | None = encoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def get_input_embeddings(self, *_: Any, **__: Any) -> Any:
        """What was encoded; once, so that nothing of the picture outlives its prefill."""
        encoded, self._encoded = self._encoded, None
        return encoded and encoded.features


class BatchedRows:
    """Continuous batching: a row joins as soon as there is room and leaves when it is finished.

    Built on `mlx_vlm.generate.BatchGenerator`. Rows are prefilled one by one, unpadded: prefill
    is bound by arithmetic, so a batch of it saves little, and its padding would cost.
    """

    def __init__(
        self, language_model: Any, processor: Any, capacity: int, processors: Processors
    ) -> None:
        from mlx_vlm.generate import BatchGenerator

        self._processors = processors
        self._rows: dict[int, Row] = {}
        self._generator = BatchGenerator(
            language_model,
            processor,
            prefill_batch_size=1,
            prefill_step_size=language_model.tokens_at_once,
            completion_batch_size=capacity,
            compute_logprobs=False,
        )

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row, encoded: Encoded) -> None:
        """Queue the row for prefill."""
        features = encoded.features.to_dict()
        kept = {name: value for name, value in features.items() if value is not None}
        (uid,) = self._generator.insert(
            encoded.ids,
            row.request.max_tokens,
            prompt_kwargs=[encoded.rest | kept],
            logits_processors=[self._processors(row)],
            attention_mask=encoded.mask,
        )
        self._rows[uid] = row

    def step(self) -> list[Row]:
        """One decode step, and one of prefill; the rows that it finished."""
        finished: list[Row] = []
        _, responses = self._generator.next()
        for response in responses:
            row = self._rows[response.uid]
            row.add(response.token, response.finish_reason)
            if row.finish_reason:
                finished.append(self._rows.pop(response.uid))
                if not response.finish_reason:
                    self._generator.remove(response.uid)
        return finished


class CachedAlone:
    """A language model that makes its own caches, so that a prompt gets one of its own.

    `BatchGenerator` would prefill in a cache for several rows, whose mask is a matrix of numbers:
    with 16 rows on a GPU that took 9 GB more at the peak, and the causal kernel has no use for it.
    """

    tokens_at_once = PREFILL_STEP_SIZE  # of a prompt

    def __init__(self, language_model: Any) -> None:
        self._language_model = language_model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._language_model, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What it says."""
        return self._language_model(*args, **kwargs)

    def make_cache(self) -> list[Any]:
        """The caches of one row, which `BatchGenerator` merges with those of others."""
        from mlx_vlm.models.cache import make_prompt_cache

        return list(make_prompt_cache(self._language_model))
