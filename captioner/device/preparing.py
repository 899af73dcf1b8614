"""Pictures and prompts on their way into a model, by its processor: tokens and patches in numpy.

May run on any one thread at a time. Knows nothing of how a caption is made.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from PIL import Image

from captioner.device.encoding import Prepared, PreparedLater, handed_on
from captioner.device.families import PREPARED_AHEAD, SHARED
from captioner.device.look import asking, other_prompts
from captioner.device.rows import Request
from captioner.errors import CaptionError, first_line


class Preparer:
    """The processor of a loaded checkpoint."""

    def __init__(self, config: Any, processor: Any, tokenizer: Any) -> None:
        self._config, self._processor, self._tokenizer = config, processor, tokenizer
        self._model_type = str(config.model_type)

    def prepare(self, image: Image.Image, request: Request) -> Prepared:
        """Tokenise the prompt and cut the picture into patches; on any one thread at a time.

        Where the processor computes in MLX, that happens once the device's thread looks at it.

        Raises:
            CaptionError: the checkpoint's processor refuses the picture or the prompt.
        """
        if self._model_type in PREPARED_AHEAD:
            return self.at_once(image, request)
        return cast(Prepared, PreparedLater(lambda: self.at_once(image, request)))

    def prepare_each(self, image: Image.Image, requests: Sequence[Request]) -> list[Prepared]:
        """The same for several questions about one picture, which is cut into patches once, where
        that is known to give the same.

        Raises:
            CaptionError: as of `prepare`.
        """
        first, others = self.prepare(image, requests[0]), requests[1:]
        shares = others and self._model_type in SHARED
        ids = self._other_prompts(first, requests) if shares else []
        if not ids:
            return [first, *(self.prepare(image, request) for request in others)]
        return [first, *(asking(first, prompt) for prompt in ids)]

    def _other_prompts(self, first: Prepared, requests: Sequence[Request]) -> list[Any]:
        def tokenize(text: str) -> Any:
            return self._tokenizer(text, add_special_tokens=self._adds_special_tokens())[
                "input_ids"
            ]

        try:
            texts = [self._prompt(request) for request in requests]
            return other_prompts(first, texts, tokenize, self._image_token())
        except Exception:  # preparing each by itself says what is wrong
            return []

    def _prompt(self, request: Request) -> Any:
        """The prompt as text, with all that the chat template puts around it."""
        from mlx_vlm.prompt_utils import apply_chat_template

        messages = [{"role": "user", "content": request.user_prompt}]
        if request.system_prompt:
            messages.insert(0, {"role": "system", "content": request.system_prompt})
        return apply_chat_template(self._processor, self._config, messages, num_images=1)

    def _adds_special_tokens(self) -> bool:
        from mlx_vlm.utils import should_add_special_tokens

        return bool(should_add_special_tokens(self._config.model_type, self._processor))

    def _image_token(self) -> Any:
        """The number of the token that stands for a picture; None when nothing tells."""
        return getattr(self._config, "image_token_id", None) or getattr(
            self._config, "image_token_index", None
        )

    def at_once(self, image: Image.Image, request: Request) -> Prepared:
        """The same as `prepare`, on this thread whatever the processor computes with."""
        from mlx_vlm.utils import prepare_inputs

        try:
            inputs = prepare_inputs(
                self._processor,
                images=[image],
                prompts=self._prompt(request),
                image_token_index=getattr(self._config, "image_token_index", None),
                add_special_tokens=self._adds_special_tokens(),
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

    def _described(self, arrays: dict[str, Any], size: tuple[int, int]) -> Prepared:
        token_id = self._image_token()
        places = np.flatnonzero(arrays["input_ids"] == token_id if token_id is not None else ())
        width, height = size
        if "image_grid_thw" in arrays:  # the Qwen-VL family: patches over time, height and width
            patch = self._config.vision_config.patch_size
            _, rows, columns = (int(n) for n in arrays["image_grid_thw"][0])
            width, height = columns * patch, rows * patch
        picture_end = int(places[-1]) + 1 if len(places) else 0
        return Prepared(arrays, len(places), width, height, picture_end)
