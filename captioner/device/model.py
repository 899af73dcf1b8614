"""A checkpoint in MLX: load it, prepare pictures for it, and generate captions with it.

It knows nothing of threads, except that MLX's streams belong to the thread that made them
(https://github.com/ml-explore/mlx/issues/3727): `prepare` may run on any thread, since nothing of
what it hands out has to be computed; all else has to run on the thread that loaded the checkpoint.
"""

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, cast

from PIL import Image

from captioner.checkpoint.inspect import without_code
from captioner.checkpoint.memory import memory_bytes
from captioner.device.cleaning import is_empty, to_sentence_end, without_thinking
from captioner.device.compiled import CompiledSteps
from captioner.device.cuda import is_cuda, keep_in_full, multiply_rows_together
from captioner.device.encoding import Encoded, Prepared, PreparedLater, encode, handed_on
from captioner.device.families import BATCHED, COMPILED, PREPARED_AHEAD, REFUSED
from captioner.device.rows import BatchedRows, CachedAlone, OneRow, Request, Row, Rows
from captioner.errors import CaptionError, CheckpointError, first_line
from captioner.records import Generation
from captioner.text import printable

# Freed arrays that MLX keeps for reuse; without a bound they grow with every new picture size.
BUFFER_CACHE_BYTES = 1 << 30
AUTO_BATCH_SIZE = 16  # beyond it a caption takes longer than a batch gains
TYPICAL_PROMPT_TOKENS = 2_300  # a full-HD screenshot and a prompt, with Qwen3-VL
TRIAL_SIDE = 224  # pixels; less is too small for some processors


def require_mlx() -> None:
    """Raise unless `mlx-vlm` is installed, and MLX with what it computes with.

    Raises:
        CheckpointError: one of them is missing.
    """
    try:
        found = importlib.util.find_spec("mlx_vlm") is not None
    except (ImportError, ValueError):  # something hides or blocks it
        found = False
    if not found:
        raise CheckpointError(
            "mlx-vlm is not installed, and the multimodal checkpoints need its vision helpers: "
            "install it with `pip install mlx-vlm`."
        )
    try:
        importlib.import_module("mlx.core")
    except ImportError as error:  # on Linux its library is a package of its own
        raise CheckpointError(
            f"MLX cannot be loaded ({first_line(error)}): install it again in a new environment, "
            "on Linux with `pip install --constraint constraints.txt --editable '.[cpu]'`, or with "
            "'.[cuda]' for an NVIDIA GPU (README.md)."
        ) from error


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
        except Exception as error:
            raise CheckpointError(f"MLX cannot load {shown}: {first_line(error)}") from error
        self.model_type = str(self._config.model_type)
        if is_cuda():
            multiply_rows_together(self._model.language_model)
        self._decoder = self._new_decoder()
        try:
            self._try_out()
        except Exception as error:
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
        row = Row(self._prepared(Image.new("RGB", side, "white"), request), request)
        if not row.prepared.arrays.keys() - {"input_ids", "attention_mask"}:
            raise ValueError("it is a model for text, and takes no picture")
        rows = self.rows(1)
        rows.add(row, self.encode(row.prepared))
        rows.step()

    def prepare(self, image: Image.Image, request: Request) -> Prepared:
        """Tokenise the prompt and cut the picture into patches; on any one thread at a time.

        Where the processor computes in MLX, that happens once the device's thread looks at it.

        Raises:
            CaptionError: the checkpoint's processor refuses the picture or the prompt.
        """
        if self.model_type in PREPARED_AHEAD:
            return self._prepared(image, request)
        return cast(Prepared, PreparedLater(lambda: self._prepared(image, request)))

    def _prepared(self, image: Image.Image, request: Request) -> Prepared:
        from mlx_vlm.prompt_utils import apply_chat_template
        from mlx_vlm.utils import prepare_inputs, should_add_special_tokens

        messages = [{"role": "user", "content": request.user_prompt}]
        if request.system_prompt:
            messages.insert(0, {"role": "system", "content": request.system_prompt})
        try:
            prompt = apply_chat_template(self._processor, self._config, messages, num_images=1)
            inputs = prepare_inputs(
                self._processor,
                images=[image],
                prompts=prompt,
                image_token_index=getattr(self._config, "image_token_index", None),
                add_special_tokens=should_add_special_tokens(
                    self._config.model_type, self._processor
                ),
            )
        except Exception as error:
            raise CaptionError(f"the model's processor refuses it: {first_line(error)}") from error
        try:  # a ragged list is no array, and numpy knows nothing of bfloat16
            given = ((name, value) for name, value in inputs.items() if value is not None)
            arrays = {name: handed_on(name, value) for name, value in given}
            return self._described(arrays, image.size)
        except Exception as error:
            raise CaptionError(
                f"the model's processor makes of it what MLX cannot take: {first_line(error)}"
            ) from error

    def batch_size(self, asked: int | Literal["auto"], max_tokens: int) -> int:
        """How many captions to make at a time: one, unless a batch is known to give the same.

        For several it makes the layers ready.
        """
        if self.model_type not in BATCHED or asked == 1:
            return 1
        if is_cuda():
            keep_in_full(self._model.language_model, usable_memory_bytes())
            self._decoder = self._new_decoder()  # the old one keeps the old layers
        return self.fitting_batch_size(max_tokens) if asked == "auto" else asked

    def encode(self, prepared: Prepared) -> Encoded:
        """Run the vision tower."""
        return encode(self._model, prepared)

    def rows(self, capacity: int) -> Rows:
        """Room for `capacity` captions at a time."""
        if capacity == 1:
            return OneRow(self._model, self._decoder, self._tokenizer.stopping_criteria)
        return BatchedRows(self._model, self._decoder, self._processor, capacity)

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
        text = self._text(row)
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

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _described(self, arrays: dict[str, Any], size: tuple[int, int]) -> Prepared:
        token_id = getattr(self._config, "image_token_id", None) or getattr(
            self._config, "image_token_index", None
        )
        image_tokens = int((arrays["input_ids"] == token_id).sum()) if token_id is not None else 0
        width, height = size
        if "image_grid_thw" in arrays:  # the Qwen-VL family: patches over time, height and width
            patch = self._config.vision_config.patch_size
            _, rows, columns = (int(n) for n in arrays["image_grid_thw"][0])
            width, height = columns * patch, rows * patch
        return Prepared(arrays, image_tokens, width, height)


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


def is_dead(error: BaseException) -> bool:
    """Whether the GPU refuses all that this process asks of it, as Metal does after a fault."""
    return "SubmissionsIgnored" in str(error) or "excessive GPU errors" in str(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether MLX or the system refused to give memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "alloc" in text or "memory" in text


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
