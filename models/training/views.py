"""One training view: a picture as the processor shows it, with everything to learn from it.

Arrays only, in fixed sizes, so that a pool of them can lie on the accelerator. Knows
nothing of the network or of batches.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

import drawing
import fonts
import vocabulary
from flowcharts import Flowchart, Random, generator, plan
from shape import Shape, list_grids
from vocabulary import COLOURS, DEFAULT_PROMPT, SHAPES, SYSTEM_PROMPTS, USER_PROMPTS, WORDS

IGNORE = 255
LETTERS = 26
NODE_CLASSES = len(WORDS) + len(SHAPES) + len(COLOURS)
LABEL_CHANNELS = 5  # letter left, letter right, word, shape, colour

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Texts:
    """How long the texts of a stage of training are."""

    length: int  # tokens of prompt, image and caption together
    room: int  # of those, at most for the words of the two prompts
    default_share: float  # views that show the default prompt and no system role


SHORT = Texts(length=216, room=80, default_share=0.5)
LONG = Texts(length=480, room=336, default_share=0.35)


@dataclass(frozen=True, slots=True)
class View:
    """One picture and its text."""

    patches: Bytes  # [max patches, 3 * patch * patch] in the processor's order
    labels: Bytes  # [max patches, LABEL_CHANNELS], IGNORE where there is nothing to learn
    tokens: NDArray[np.int16]  # [texts.length]
    facts: NDArray[np.int16]  # grid, image start, caption start, caption end, gap at, gap


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    return vocabulary.build_tokenizer()


@lru_cache(maxsize=4096)
def _encode(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer().encode(text).ids)


def _noise_words(rng: Random, most: int) -> list[int]:
    """A prompt without meaning, for captions must not depend on what is asked.

    Either any tokens at all, or made-up words, which are mostly bytes as rare words are.
    """
    count = int(rng.integers(1, most + 1))
    if rng.random() < 0.5:
        ordinary = vocabulary.token_ids(_tokenizer()).pad
        return [int(token) for token in rng.integers(0, ordinary, count)]
    letters = rng.choice(list("etaoinshrdlucmwfygpbvkETAOI.,?\n"), count)
    ends = rng.random(count) < 0.2
    text = "".join(letter + " " * bool(end) for letter, end in zip(letters, ends, strict=True))
    return list(_tokenizer().encode(text).ids[:count])


def _prompts(rng: Random, texts: Texts) -> tuple[list[int] | None, list[int]]:
    """System prompt, or None, and user prompt."""
    kind = rng.random()
    if kind < texts.default_share:
        return None, list(_encode(DEFAULT_PROMPT))
    if kind < texts.default_share + 0.25:
        user = list(_encode(USER_PROMPTS[int(rng.integers(len(USER_PROMPTS)))]))
    else:
        user = _noise_words(rng, texts.room // 2)
    if rng.random() < 0.5:
        return None, user
    if rng.random() < 0.6:
        return list(_encode(SYSTEM_PROMPTS[int(rng.integers(len(SYSTEM_PROMPTS)))])), user
    return _noise_words(rng, texts.room // 2), user


def prompt_tokens(
    image_tokens: int, system: list[int] | None, user: list[int]
) -> tuple[list[int], int]:
    """The chat template's tokens up to the caption, and where the image tokens begin."""
    ids = vocabulary.token_ids(_tokenizer())
    head = [] if system is None else [*_encode("<|im_start|>system\n"), *system]
    if system is not None:
        head += _encode("<|im_end|>\n")
    head += [*_encode("<|im_start|>user\n"), ids.vision_start]
    tail = [ids.vision_end, *user, *_encode("<|im_end|>\n<|im_start|>assistant\n")]
    return [*head, *[ids.image] * image_tokens, *tail], len(head)


def default_prompt_tokens(image_tokens: int) -> tuple[list[int], int]:
    """The same for the default prompt without a system role."""
    return prompt_tokens(image_tokens, None, list(_encode(DEFAULT_PROMPT)))


def _text(
    rng: Random, caption: str, image_tokens: int, texts: Texts
) -> tuple[NDArray[np.int16], list[int]]:
    """Tokens of the whole turn, and the facts that lie in them."""
    prompt, image_start = prompt_tokens(image_tokens, *_prompts(rng, texts))
    answer = [*_encode(caption), vocabulary.token_ids(_tokenizer()).end]
    tokens = np.full(texts.length, vocabulary.token_ids(_tokenizer()).pad, np.int16)
    tokens[: len(prompt) + len(answer)] = [*prompt, *answer]
    # A jump in the positions after the picture stands in for prompts too long to train on.
    gap_at = int(rng.integers(image_start + image_tokens, len(prompt)))
    gap = int(rng.integers(1, 400)) if rng.random() < 0.2 else 0
    return tokens, [image_start, len(prompt), len(prompt) + len(answer), gap_at, gap]


def to_patches(pixels: Bytes, patch: int) -> Bytes:
    """[height, width, 3] to [patches, values]: 2 by 2 blocks of patches, channels first."""
    rows, columns = pixels.shape[0] // patch, pixels.shape[1] // patch
    blocks = pixels.reshape(rows // 2, 2, patch, columns // 2, 2, patch, 3)
    return blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, -1)


def _patch_labels(chart: Flowchart, rows: int, columns: int, patch: int) -> Bytes:
    """What stands on each patch, in the processor's order."""
    grid = np.full((rows, columns, LABEL_CHANNELS), IGNORE, np.uint8)
    x_scale, y_scale = columns * patch / chart.width, rows * patch / chart.height
    middle_x = (np.arange(columns) + 0.5) * patch
    middle_y = (np.arange(rows) + 0.5) * patch
    face, size = chart.look.face, chart.look.letter_size
    capital = fonts.capital_height(face) * size * y_scale
    for node in chart.nodes:
        inside_x = np.abs(middle_x - node.centre[0] * x_scale) < node.width * x_scale / 2
        inside_y = np.abs(middle_y - node.centre[1] * y_scale) < node.height * y_scale / 2
        inside = np.ix_(inside_y, inside_x)
        grid[*inside, 3] = SHAPES.index(node.shape)
        grid[*inside, 4] = COLOURS.index(node.colour)
        edges = np.array(fonts.edges(face, node.label)) * size
        edges = (edges + node.centre[0] - edges[-1] / 2) * x_scale
        top = node.centre[1] * y_scale - capital / 2
        overlap = np.minimum(middle_y + patch / 2, top + capital) - np.maximum(
            middle_y - patch / 2, top
        )
        on_text = overlap >= min(3.0, 0.45 * capital)
        wide = (middle_x + patch / 2 > edges[0] + 3) & (middle_x - patch / 2 < edges[-1] - 3)
        grid[*np.ix_(on_text, wide), 2] = WORDS.index(node.label)
        codes = np.array([IGNORE, *(ord(letter) - ord("A") for letter in node.label), IGNORE])
        for channel, offset in enumerate((-patch / 4, patch / 4)):
            letters = codes[np.searchsorted(edges, middle_x + offset)].astype(np.uint8)
            grid[on_text, :, channel] = np.where(
                letters == IGNORE, grid[on_text, :, channel], letters
            )
    blocks = grid.reshape(rows // 2, 2, columns // 2, 2, LABEL_CHANNELS)
    return blocks.transpose(0, 2, 1, 3, 4).reshape(rows * columns, LABEL_CHANNELS)


def picture(chart: Flowchart, seed: int, index: int) -> Image.Image:
    """The picture as it comes back from its file."""
    image = drawing.draw(chart, seed, index)
    if chart.look.jpeg:
        image = Image.open(io.BytesIO(drawing.encode(chart, image)))
    return image


def make_view(seed: int, index: int, shape: Shape, texts: Texts) -> tuple[View, str]:
    """The view of this seed and index, and its caption."""
    chart = plan(seed, index, shape)
    height, width = shape.resized(chart.height, chart.width)
    small = picture(chart, seed, index).resize((width, height), Image.Resampling.BICUBIC)
    rows, columns = height // shape.patch, width // shape.patch
    used = rows * columns
    patches = np.zeros((shape.max_patches, shape.patch_values), np.uint8)
    patches[:used] = to_patches(np.asarray(small), shape.patch)
    labels = np.full((shape.max_patches, LABEL_CHANNELS), IGNORE, np.uint8)
    labels[:used] = _patch_labels(chart, rows, columns, shape.patch)
    rng = generator(seed, index + 2**41)
    tokens, places = _text(rng, chart.caption, used // 4, texts)
    facts = np.array([list_grids(shape).index((rows, columns)), *places], np.int16)
    return View(patches, labels, tokens, facts), chart.caption
