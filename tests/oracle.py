"""The reference that our captions are checked against: transformers' Qwen3-VL on torch's CPU.

It goes all the way by itself: transformers' image processor, chat template, model and `generate`,
in float32. It shares with us the files of a checkpoint and Pillow, and nothing of mlx or mlx-vlm.
torchvision is never imported: beside a CPU build of torch it takes transformers down with it, so
everything is named by its own class, not by one of transformers' Auto classes that look for it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.numpy import load_file
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

THREADS = 1  # two wait for one another more than they work, where something else is running
IMAGE_TOKEN = "<|image_pad|>"

Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the reference makes of a picture and a prompt."""

    pixels: Floats  # (patches, numbers of a patch)
    grid: Whole  # (1, 3): patches over time, height and width
    ids: Whole  # (tokens,)


class Oracle:
    """transformers' model with the float32 weights of a checkpoint in MLX's layout."""

    def __init__(self, checkpoint: Path) -> None:
        torch.set_num_threads(THREADS)
        config: Any = Qwen3VLMoeConfig.from_pretrained(checkpoint)
        self._image_token_id = int(config.image_token_id)
        self._processor = Qwen2VLImageProcessorPil.from_pretrained(checkpoint)
        self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(checkpoint)
        self._network: Any = Qwen3VLMoeForConditionalGeneration(config)
        self._network.train(False)
        self._network.generation_config = GenerationConfig.from_pretrained(checkpoint)
        arrays = torch_arrays(load_file(checkpoint / "model.safetensors"))
        self._network.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})

    def inputs(self, image: Image.Image, user: str, system: str | None = None) -> Inputs:
        """Patches, their grid and the token ids, with one image token for 2×2 patches."""
        made = self._processor(image, return_tensors="np")
        grid = made["image_grid_thw"]
        picture_tokens = int(grid.prod()) // self._processor.merge_size**2
        content = [{"type": "image"}, {"type": "text", "text": user}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        text = text.replace(IMAGE_TOKEN, IMAGE_TOKEN * picture_tokens)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return Inputs(made["pixel_values"], grid, np.array(ids))

    def first_logits(self, inputs: Inputs, merger_gelu: str = "none") -> Floats:
        """The logits of a caption's first token; `merger_gelu` "tanh" approximates that GELU."""
        mergers = [m for m in self._network.modules() if type(m).__name__.endswith("PatchMerger")]
        assert len(mergers) == 2  # the last layer's and that of deepstack's one layer
        for merger in mergers:
            merger.act_fn = torch.nn.GELU(approximate=merger_gelu)
        try:
            with torch.inference_mode():
                logits = self._network(**self._tensors(inputs)).logits[0, -1].numpy()
        finally:
            for merger in mergers:
                merger.act_fn = torch.nn.GELU()
        return np.asarray(logits, np.float32)

    def caption(self, inputs: Inputs, max_tokens: int) -> tuple[list[int], float]:
        """The greedy caption's tokens, and by how much each of them won at the least."""
        with torch.inference_mode():
            done = self._network.generate(
                **self._tensors(inputs),
                max_new_tokens=max_tokens,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        best = torch.cat(done.logits).topk(2).values
        margin = float((best[:, 0] - best[:, 1]).min())
        return done.sequences[0, inputs.ids.size :].tolist(), margin

    def text(self, tokens: list[int]) -> str:
        """The tokens as text, without special tokens."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _tensors(self, inputs: Inputs) -> dict[str, Any]:
        ids = torch.from_numpy(inputs.ids)[None]
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == self._image_token_id).long(),  # for the M-RoPE positions
            "pixel_values": torch.from_numpy(inputs.pixels),
            "image_grid_thw": torch.from_numpy(inputs.grid),
        }


def torch_arrays(weights: dict[str, Floats]) -> dict[str, Floats]:
    """A checkpoint's arrays from MLX's names and layouts to those of transformers' modules.

    Experts go to the modules' own layout, gate_up [E, 2I, H] and down [E, H, I], and straight
    into `load_state_dict`: files on the Hub have them transposed, and `from_pretrained` guesses
    which it is from the sizes.
    """
    arrays = {}
    for name, value in weights.items():
        target = name.replace("language_model.model.", "model.language_model.")
        target = target.replace("vision_tower.", "model.visual.")
        if name.endswith("patch_embed.proj.weight"):
            value = value.transpose(0, 4, 1, 2, 3)  # MLX has the channels last
        if ".switch_mlp." in name:
            target = target.replace(".switch_mlp.", ".experts.").removesuffix(".weight")
            if target.endswith("up_proj"):
                continue
            if target.endswith("gate_proj"):
                up = weights[name.replace("gate_proj", "up_proj")]
                target = target.replace("gate_proj", "gate_up_proj")
                value = np.concatenate([value, up], axis=1)
        arrays[target] = np.ascontiguousarray(value)
    arrays["lm_head.weight"] = arrays["model.language_model.embed_tokens.weight"]  # tied
    return arrays
