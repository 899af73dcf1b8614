"""A checkpoint in MLX: load it, prepare pictures for it, and generate captions with it.

It knows nothing of threads, except that MLX's streams belong to the thread that made them
(https://github.com/ml-explore/mlx/issues/3727): `prepare` may run on any thread, since nothing of
what it hands out has to be computed; all else has to run on the thread that loaded the checkpoint.
"""

import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from captioner.checkpoint.inspect import without_code
from captioner.checkpoint.memory import memory_bytes
from captioner.device.cleaning import is_empty, to_sentence_end, without_thinking
from captioner.device.compiled import CompiledSteps, compile_blocks
from captioner.device.cuda import is_cuda, keep_in_full, multiply_rows_together
from captioner.device.encoding import Encoded, Prepared, encode
from captioner.device.families import BATCHED, COMPILED, REFUSED, SHARED
from captioner.device.grammar import Grammars
from captioner.device.look import Look
from captioner.device.preparing import Preparer
from captioner.device.rows import BatchedRows, CachedAlone, OneRow, Request, Row, Rows
from captioner.device.sampling import noise
from captioner.device.structure import caption_of, caption_of_a_part, fields_of
from captioner.device.troubles import cannot_compile
from captioner.errors import CaptionError, CheckpointError, first_line
from captioner.records import Generation
from captioner.text import printable

# Freed arrays that MLX keeps for reuse; without a bound they grow with every new picture size.
BUFFER_CACHE_BYTES = 1 << 30
AUTO_BATCH_SIZE = 16  # beyond it a caption takes longer than a batch gains
TYPICAL_PROMPT_TOKENS = 2_300  # a full-HD screenshot and a prompt, with Qwen3-VL
TRIAL_SIDE = 224  # pixels; less is too small for some processors


class MlxModel:
    """A loaded checkpoint with its processor."""

    def __init__(self, directory: Path) -> None:
        """Load `directory`, which never gets to run code of its own.

        Raises:
            CheckpointError: MLX cannot load it.
        """
        import mlx.core as mx
        from mlx_vlm import load

        mx.set_cache_limit(BUFFER_CACHE_BYTES)
        shown = printable(str(directory))
        try:
            declared = json.loads((directory / "config.json").read_bytes())["model_type"]
            if reason := REFUSED.get(declared):
                raise ValueError(reason)
            with without_code(directory) as clean:
                self._model, self._processor = load(str(clean), trust_remote_code=False)
            self._config = self._model.config
            self._tokenizer: Any = getattr(self._processor, "tokenizer", self._processor)
            self._tokenizer.stopping_criteria.reset(self._config.eos_token_id)
            self._grammars = Grammars(self._tokenizer, self._config.eos_token_id)
        except Exception as error:
            raise CheckpointError(f"MLX cannot load {shown}: {first_line(error)}") from error
        if is_cuda():
            multiply_rows_together(self._model.language_model)
        self.model_type = str(self._config.model_type)
        if is_cuda() and self.model_type in COMPILED:
            compile_blocks(self._model.vision_tower)
        self._decoder = self._new_decoder()
        self._preparer = Preparer(self._config, self._processor, self._tokenizer)
        try:
            self._try_out()
        except Exception as error:
            if trouble := cannot_compile(error):
                raise CheckpointError(trouble) from error
            version = importlib.metadata.version("mlx-vlm")
            raise CheckpointError(
                f"mlx-vlm {version} cannot caption a picture with {shown} ({self.model_type}): "
                f"{first_line(error)}"
            ) from error

    def _new_decoder(self) -> Any:
        language_model = self._model.language_model
        if is_cuda() and self.model_type in COMPILED:
            return CompiledSteps(language_model)
        return CachedAlone(language_model)

    def _try_out(self) -> None:
        """Make one token of a blank picture: what a family cannot do shows before a run begins."""
        from mlx_vlm.generate.diffusion import is_diffusion_model

        if is_diffusion_model(self._model):
            raise ValueError("it does not write one token after another")
        request = Request(".", None, 1, 0.0)
        side = (TRIAL_SIDE, TRIAL_SIDE)
        row = Row(self._preparer.at_once(Image.new("RGB", side, "white"), request), request)
        if not row.prepared.arrays.keys() - {"input_ids", "attention_mask"}:
            raise ValueError("it is a model for text, and takes no picture")
        rows = self.rows(1)
        rows.add(row, self.encode(row.prepared))
        rows.step()

    def prepare(self, image: Image.Image, request: Request) -> Prepared:
        """Tokenise the prompt and cut the picture into patches; on any one thread at a time.

        Raises:
            CaptionError: the checkpoint's processor refuses the picture or the prompt.
        """
        return self._preparer.prepare(image, request)

    def prepare_each(self, image: Image.Image, requests: Sequence[Request]) -> list[Prepared]:
        """The same for several questions about one picture.

        Raises:
            CaptionError: as of `prepare`.
        """
        return self._preparer.prepare_each(image, requests)

    def batch_size(self, asked: int | Literal["auto"], max_tokens: int) -> int:
        """How many captions to make at a time: one, unless a batch is known to give the same.

        For several it makes the layers ready.
        """
        if self.model_type not in BATCHED or asked == 1:
            return 1
        if is_cuda():
            self._decoder = None  # it keeps the layers as they are
            keep_in_full(self._model.language_model, usable_memory_bytes())
            self._decoder = self._new_decoder()
        return self.fitting_batch_size(max_tokens) if asked == "auto" else asked

    def encode(self, prepared: Prepared) -> Encoded:
        """Run the vision tower."""
        return encode(self._model, prepared)

    def look(self, prepared: Sequence[Prepared]) -> Look:
        """A picture that several prompts are about, which is seen once where that is possible."""
        return Look(self._model, prepared, self.model_type in SHARED)

    def rows(self, capacity: int) -> Rows:
        """Room for `capacity` captions at a time."""
        if isinstance(self._decoder, CompiledSteps):
            self._decoder.most = capacity
        if capacity == 1:
            is_end = self._tokenizer.stopping_criteria
            return OneRow(self._model, self._decoder, is_end, self._processors)
        return BatchedRows(self._decoder, self._processor, capacity, self._processors)

    def _processors(self, row: Row) -> list[Any]:
        asked = row.request
        held = [self._grammars.holding(asked.schema)] if asked.schema else []
        return held + noise(self._config, row.prepared, asked.temperature, asked.seed)

    def hold_to(self, schema: str) -> None:
        """Check that answers can be held to a schema.

        Raises:
            CheckpointError: not with this model's tokenizer, or it is too much for it.
        """
        try:
            self._grammars.holding(schema)
        except CaptionError as error:
            raise CheckpointError(f"--schema cannot be used: {error}.") from error

    def fitting_batch_size(self, max_tokens: int) -> int:
        """How many captions of `max_tokens` tokens fit into half of the memory that is free.

        The other half is for the activations of a prefill and for everybody else.
        """
        import mlx.core as mx

        text = getattr(self._config, "text_config", self._config)
        try:
            per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
        except (AttributeError, TypeError):
            return 1
        row_bytes = per_token * self._number_bytes() * (TYPICAL_PROMPT_TOKENS + max_tokens)
        free = max(0, usable_memory_bytes() - mx.get_active_memory())
        return int(min(AUTO_BATCH_SIZE, max(1, free // 2 // row_bytes)))

    def _number_bytes(self) -> int:
        """Of one number in the key-value cache: it has the type that the layers compute in."""
        import mlx.core as mx
        from mlx.utils import tree_flatten

        weights = (value for _, value in tree_flatten(self._model.language_model.parameters()))
        sizes = [w.dtype.size for w in weights if mx.issubdtype(w.dtype, mx.floating)]
        return int(max(sizes))

    def describe(self, row: Row) -> Generation:
        """The finished `row` as text and figures."""
        prepared = row.prepared
        text, fields, said = self._text(row), None, ""
        if row.request.schema:
            text, fields, said = self._structured(row)
        flags = {
            "truncated": row.finish_reason == "length",
            "repetitive": row.loop is not None,
            "empty": is_empty(text),
        }
        return Generation(
            text=text,
            finish_reason=row.finish_reason,
            prompt_tokens=prepared.prompt_tokens,
            image_tokens=prepared.image_tokens,
            width=prepared.width,
            height=prepared.height,
            generated_tokens=len(row.tokens),
            prefill_seconds=row.prefilled - row.began,
            decode_seconds=row.done - row.prefilled,
            flags=tuple(flag for flag, raised in flags.items() if raised),
            fields=fields,
            said=said,
        )

    def wired(self) -> AbstractContextManager[None]:
        """On a Mac, keep the weights wired in memory while the block runs; elsewhere nothing."""
        from mlx_vlm.generate import generation_stream, wired_limit

        return wired_limit(self._model, [generation_stream])  # type: ignore[no-any-return]

    def _text(self, row: Row) -> str:
        """What the row says, without thinking and without what it repeats."""
        if row.loop is None:
            # not every checkpoint marks the token that ends a text as a special one
            said = row.tokens[:-1] if row.finish_reason == "stop" else row.tokens
            return without_thinking(self._decoded(said))
        kept = self._decoded(row.tokens[: row.loop.kept])
        longer = self._decoded(row.tokens[: row.loop.kept + row.loop.period])
        return without_thinking(to_sentence_end(kept, longer))

    def _structured(self, row: Row) -> tuple[str, dict[str, Any] | None, str]:
        """The caption of an answer that was held to a schema, its fields, and all of it where the
        caption is not that."""
        whole = row.finish_reason == "stop"
        said = self._grammars.text(row.tokens[:-1] if whole else row.tokens)
        fields = fields_of(said) if whole else None
        caption = caption_of_a_part(said) if fields is None else caption_of(fields, said)
        return caption, fields, "" if caption == said else said

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def usable_memory_bytes() -> int:
    """What a model may take of this machine's memory, in bytes.

    On a Mac that is Metal's recommendedMaxWorkingSetSize, which follows `iogpu.wired_limit_mb`:
    the docstring of `mlx.core.set_wired_limit` calls it the system's limit.
    """
    try:
        import mlx.core as mx
    except ImportError:  # loading the model says what is wrong with it
        return memory_bytes()
    info = mx.device_info()
    metal, cuda = info.get("max_recommended_working_set_size"), info.get("total_memory")
    return int(metal or cuda or memory_bytes())


def peak_memory_bytes() -> int:
    """The most memory that MLX has used so far, in bytes."""
    import mlx.core as mx

    return int(mx.get_peak_memory())


@contextmanager
def freed_afterwards() -> Iterator[None]:
    """Give back MLX's cached buffers and this thread's streams when the block ends.

    A stream that outlives its thread aborts the process at exit, now and then.
    """
    import mlx.core as mx

    try:
        yield
    finally:
        mx.clear_cache()
        mx.clear_streams()
