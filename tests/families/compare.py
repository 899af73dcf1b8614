"""Our captions beside those of `mlx_vlm.generate`, token for token.

Knows nothing of how a checkpoint was made.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from captioner.device.model import MlxModel
from captioner.device.rows import Request, Row

PROMPT = "Describe the contents of this image."
FURTHER = ("Describe the colours of this image.", "Describe the contents again.")
SIZES = ((96, 64), (64, 96), (120, 40), (64, 64), (40, 120), (112, 112))
TOKENS = (6, 12, 9, 12, 7, 10)  # of each picture, so that rows leave and join at any time


def pictures() -> list[Image.Image]:
    """Noise and a box, of mixed sizes."""
    made = []
    for number, size in enumerate(SIZES):
        rng = np.random.default_rng(number)
        image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
        ImageDraw.Draw(image).rectangle((8, 8, 30, 30), fill=("red", "blue", "lime")[number % 3])
        made.append(image)
    return made


def theirs(directory: Path, folder: Path) -> list[list[int]]:
    """The captions of `mlx_vlm.generate`, one after another."""
    from mlx_vlm import generate, load
    from mlx_vlm.prompt_utils import apply_chat_template

    model, processor = load(str(directory), trust_remote_code=False)
    captions = []
    for number, image in enumerate(pictures()):
        image.save(path := folder / f"{number}.png")
        prompt = apply_chat_template(processor, model.config, PROMPT, num_images=1)
        done = generate(
            model,
            processor,
            prompt,
            image=[str(path)],
            max_tokens=TOKENS[number],
            temperature=0.0,
            verbose=False,
        )
        captions.append([int(token) for token in done.token_ids])
    return captions


def ours(directory: Path, together: int) -> list[list[int]]:
    """Our captions; a row joins as soon as another leaves, as on the device."""
    model = MlxModel(directory)
    rows = model.rows(together)
    waiting = list(enumerate(pictures()))
    running: dict[Row, int] = {}
    done: dict[int, list[int]] = {}
    while waiting or running:
        while waiting and len(rows) < together:
            number, image = waiting.pop(0)
            request = Request(PROMPT, None, TOKENS[number], 0.0)
            row = Row(model.prepare(image, request), request)
            rows.add(row, model.encode(row.prepared))
            running[row] = number
        for row in rows.step():
            done[running.pop(row)] = row.tokens
    return [done[number] for number in sorted(done)]


def answers(directory: Path, together: int, in_one_look: bool) -> list[list[list[int]]]:
    """Our answers to three questions about each picture, in one look or one by one."""
    model = MlxModel(directory)
    found = []
    for number, image in enumerate(pictures()):
        requests = [Request(prompt, None, TOKENS[number], 0.0) for prompt in (PROMPT, *FURTHER)]
        prepared = model.prepare_each(image, requests)
        look = model.look(prepared)
        encode = look.encode if in_one_look else model.encode
        asked = [Row(*both) for both in zip(prepared, requests, strict=True)]
        rows, waiting, running = model.rows(together), list(asked), 0
        while waiting or running:
            while waiting and len(rows) < together:
                rows.add(row := waiting.pop(0), encode(row.prepared))
                running += 1
            running -= len(rows.step())
        found.append([row.tokens for row in asked])
    return found


def differences(a: Iterable[Any], b: Iterable[Any]) -> list[int]:
    """The numbers of the pictures whose captions differ."""
    return [n for n, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
