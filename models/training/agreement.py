"""Does the checkpoint say the same in MLX at 8 bits, in MLX at float32, and in torch?

    python models/training/agreement.py float32.safetensors --n 200

Captions the same held-out pictures with the 8-bit checkpoint, with the same weights at
float32, both through mlx-vlm, and with ``Qwen3VLMoeForConditionalGeneration`` on torch's
CPU, then counts the captions that differ and gives each one's accuracy. Pictures are
prepared once, by mlx-vlm's processor, for all three.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vocabulary
from evaluate import CHECKPOINT, caption_folder, draw_folder
from export import export
from scoring import score_all

LONGEST = 100  # tokens; a caption of five nodes has 51


def torch_captions(folder: Path, checkpoint: Path, state: Path) -> dict[str, str]:
    """Greedy captions from transformers, float32, on the CPU."""
    import torch
    from mlx_vlm.utils import load_processor
    from transformers import AutoConfig, Qwen3VLMoeForConditionalGeneration

    config = AutoConfig.from_pretrained(checkpoint)
    with tempfile.TemporaryDirectory() as name:
        # The Hub's own names and layout, which transformers converts on loading.
        Path(name, "model.safetensors").write_bytes(state.read_bytes())
        config.save_pretrained(name)
        network: Any = Qwen3VLMoeForConditionalGeneration.from_pretrained(
            name, config=config, dtype=torch.float32
        )
    network.eval()
    match_merger(network)
    processor: Any = load_processor(checkpoint)
    ids = vocabulary.token_ids(vocabulary.build_tokenizer())
    user = [{"type": "image"}, {"type": "text", "text": vocabulary.DEFAULT_PROMPT}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": user}], tokenize=False, add_generation_prompt=True
    )
    captions = {}
    for path in sorted(folder.iterdir()):
        inputs = processor(text=[text], images=[str(path)])
        arrays = {name: torch.from_numpy(np.array(value)) for name, value in inputs.items()}
        tokens = arrays["input_ids"].long()
        output = network.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            pixel_values=arrays["pixel_values"],
            image_grid_thw=arrays["image_grid_thw"].long(),
            mm_token_type_ids=(tokens == ids.image).long(),
            max_new_tokens=LONGEST,
            do_sample=False,
        )
        answer = output[0, tokens.shape[1] :].tolist()
        captions[path.name] = processor.tokenizer.decode(answer, skip_special_tokens=True)
    return captions


def match_merger(network: Any) -> None:
    """Use the tanh GELU in the mergers, as mlx-vlm does for this model type.

    transformers uses the exact one there; the checkpoint was trained with mlx-vlm's.
    """
    import torch

    for module in network.modules():
        if type(module).__name__.endswith("VisionPatchMerger"):
            module.act_fn = torch.nn.GELU(approximate="tanh")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare 8 bits, float32 and torch.")
    parser.add_argument("state", type=Path, help="float32 weights left by train.py")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--model", type=Path, default=CHECKPOINT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, full = Path(name, "pictures"), Path(name, "float32")
        folder.mkdir()
        truths = draw_folder(folder, options.seed, options.n)
        export(options.state, full, bits=0)
        said = {
            "mlx 8 bits": caption_folder(folder, options.model),
            "mlx float32": caption_folder(folder, full),
            "torch float32": torch_captions(folder, full, options.state),
        }
    reference = said["torch float32"]
    for kind, captions in said.items():
        same = sum(captions[name] == reference[name] for name in truths)
        figures = score_all((captions[name], truths[name]) for name in truths).fractions()
        print(f"{kind}: {same} of {options.n} as torch; {json.dumps(figures)}")


if __name__ == "__main__":
    main()
