"""Random flowcharts: what is on them, where, and the caption that says so.

The same seed and index give the same flowchart on every machine. Seeds from
TRAINING_SEEDS up belong to training; everything that measures refuses them. Knows
nothing of tokens or of networks; drawing.py draws, samples.py writes the sample pictures.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

import fonts
from shape import Shape
from vocabulary import COLOURS, COUNTS, LAYOUTS, SHAPES, WORDS, count_sentence, node_phrase

TRAINING_SEEDS = 2**31
SMALLEST_LETTERING = 10.5  # font size in pixels after the processor has shrunk the picture
ASPECTS = (0.45, 0.5625, 2 / 3, 0.75, 1.0, 1.25, 4 / 3, 1.5, 1.6, 16 / 9, 2.0, 2.5)
TRIES = 8  # arrangements of one layout and count before others are tried
SIZES = (320.0, 1280.0)  # shortest and longest longer side of a canvas

Rgb = tuple[int, int, int]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Node:
    """One node; lengths are pixels of the canvas."""

    colour: str
    shape: str
    label: str
    left: float
    top: float
    width: float
    height: float
    rgb: Rgb

    @property
    def centre(self) -> tuple[float, float]:
        """Where the label's middle goes."""
        return self.left + self.width / 2, self.top + self.height / 2


@dataclass(frozen=True, slots=True)
class Look:
    """How a flowchart is painted; lengths are pixels of the canvas."""

    face: int  # index into fonts.FACES
    letter_size: float
    background: Rgb
    ink: Rgb  # of connectors
    line: float  # width of connectors
    arrow: float  # length of an arrow head
    outline: float  # width of a node's outline, 0 for none
    hollow: bool  # nodes show their colour as an outline only
    corner: float  # radius of a box's corners
    shadow: float  # offset of a node's shadow, 0 for none
    grid: float  # spacing of the background's grid, 0 for none
    grid_rgb: Rgb
    dots: bool  # the grid is dots, not lines
    noise: float  # standard deviation in grey levels, 0 for none
    jpeg: int  # quality, 0 for PNG
    smooth: bool  # edges drawn twice as large and reduced


@dataclass(frozen=True, slots=True)
class Flowchart:
    """Everything about one picture."""

    width: int
    height: int
    layout: str
    nodes: tuple[Node, ...]
    look: Look

    @property
    def caption(self) -> str:
        """The one right caption."""
        phrases = [node_phrase(node.colour, node.shape, node.label) for node in self.nodes]
        listed = ", ".join(phrases[:-1]) + " and " + phrases[-1]
        return f"{count_sentence(self.layout, len(self.nodes))}: {listed}."


PALETTE: dict[str, Rgb] = {
    "red": (212, 38, 38),
    "orange": (244, 134, 22),
    "yellow": (246, 218, 48),
    "green": (46, 158, 74),
    "blue": (44, 98, 214),
    "purple": (124, 58, 178),
    "pink": (246, 142, 190),
    "grey": (138, 138, 142),
}


def generator(seed: int, index: int) -> Random:
    """The random numbers of one picture."""
    return np.random.default_rng([seed, index])


def refuse_training_seed(seed: int) -> None:
    """Raise ValueError for a seed whose pictures training may have seen."""
    if not 0 <= seed < TRAINING_SEEDS:
        raise ValueError(f"seed {seed} is not held out: use 0 to {TRAINING_SEEDS - 1}")


def _pick(rng: Random, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _tint(rng: Random, rgb: Rgb, spread: int) -> Rgb:
    shift = rng.integers(-spread, spread + 1, 3).tolist()
    red, green, blue = (min(255, max(0, value + by)) for value, by in zip(rgb, shift, strict=True))
    return red, green, blue


def _canvas(rng: Random) -> tuple[int, int]:
    """Width and height: common aspects half of the time, small canvases more than large."""
    if rng.random() < 0.5:
        aspect = ASPECTS[int(rng.integers(len(ASPECTS)))]
    else:
        aspect = math.exp(_pick(rng, math.log(0.42), math.log(2.7)))
    low, high = SIZES
    longer = low * (high / low) ** (float(rng.random()) ** 1.6)
    width, height = (longer, longer / aspect) if aspect >= 1 else (longer * aspect, longer)
    return round(width), round(height)


def _fits(shape: str, width: float, height: float, text: float, capital: float) -> bool:
    """Whether lettering lies within the node's own colour."""
    across, up = text / width, capital / height
    match shape:
        case "ellipse":
            return across**2 + up**2 <= 0.8
        case "diamond":
            return across + up <= 0.88
        case "hexagon":
            return across <= 0.78 and up <= 0.6
        case "parallelogram":
            return text <= 0.92 * width - slant(width, height) and up <= 0.6
        case _:
            return across <= 0.88 and up <= 0.65


def slant(width: float, height: float) -> float:
    """How far a parallelogram leans, in pixels."""
    return min(0.3 * width, 0.45 * height)


def _largest_lettering(nodes: list[Node], face: int, limit: float, floor: float) -> float:
    """The largest font size at which every label fits its node; 0 if below the floor."""
    capital = fonts.capital_height(face)
    size = limit
    while size >= floor:
        if all(
            _fits(node.shape, node.width, node.height, fonts.edges(face, node.label)[-1] * size,
                  capital * size)
            for node in nodes
        ):  # fmt: skip
            return size
        size *= 0.96
    return 0.0


def _arrange(rng: Random, width: int, height: int, layout: str, count: int) -> list[Node]:
    """Nodes in reading order with random kinds, positions and sizes."""
    across = layout == LAYOUTS[0]
    along, other = (width, height) if across else (height, width)
    margin = along * _pick(rng, 0.025, 0.06)
    cell = (along - 2 * margin) / count
    crowded = 0.03 * (count - 2)
    gap = cell * (_pick(rng, 0.24, 0.34) - crowded if across else _pick(rng, 0.26, 0.42))
    length = min((cell - gap) * _pick(rng, 0.85 + crowded, 1.0), 0.42 * along)
    ratio = _pick(rng, 0.5 + crowded, 1.15) if across else _pick(rng, 1.3, 3.4)
    breadth = min(length * ratio, other * _pick(rng, 0.6, 0.86))
    middle = other / 2 + (other - breadth) * _pick(rng, -0.2, 0.2)
    labels = rng.permutation(len(WORDS))[:count]
    nodes = []
    for place in range(count):
        colour = COLOURS[int(rng.integers(len(COLOURS)))]
        start = margin + cell * (place + 0.5) + gap * _pick(rng, -0.12, 0.12)
        own, wide = length * _pick(rng, 0.92, 1.0), breadth * _pick(rng, 0.9, 1.0)
        offset = min(0.12 * breadth, (other - breadth) * 0.25) * _pick(rng, -1, 1)
        x, y, w, h = start, middle + offset, own, wide
        if not across:
            x, y, w, h = y, x, h, w
        nodes.append(
            Node(
                colour=colour,
                shape=SHAPES[int(rng.integers(len(SHAPES)))],
                label=WORDS[int(labels[place])],
                left=x - w / 2,
                top=y - h / 2,
                width=w,
                height=h,
                rgb=_tint(rng, PALETTE[colour], 14),
            )
        )
    return nodes


def _look(rng: Random, scale: float, face: int, letter_size: float, area: int) -> Look:
    """Paint; ``scale`` is how much the processor will shrink the canvas."""
    dark = rng.random() < 0.3
    background = _tint(rng, (30, 32, 38), 16) if dark else _tint(rng, (246, 246, 246), 9)
    step = int(rng.integers(8, 22)) * (1 if dark else -1)
    red, green, blue = (min(255, max(0, value + step)) for value in background)
    ink = _tint(rng, (205, 205, 205) if dark else (60, 60, 60), 30)
    hollow = rng.random() < 0.12
    outline = _pick(rng, 2.4, 3.6) if hollow else _pick(rng, 0.8, 2.0) * (rng.random() < 0.6)
    return Look(
        face=face,
        letter_size=letter_size,
        background=background,
        ink=ink,
        line=_pick(rng, 1.1, 2.2) / scale,
        arrow=_pick(rng, 5.0, 8.5) / scale,
        outline=outline / scale,
        hollow=hollow,
        corner=_pick(rng, 2.0, 5.0) / scale * (rng.random() < 0.4),
        shadow=_pick(rng, 1.5, 3.0) / scale * (rng.random() < 0.15 and not hollow),
        grid=_pick(rng, 10.0, 32.0) / scale * (rng.random() < 0.35),
        grid_rgb=(red, green, blue),
        dots=rng.random() < 0.4,
        noise=_pick(rng, 1.5, 8.0) * (rng.random() < 0.3),
        jpeg=int(rng.integers(55, 96)) * int(rng.random() < 0.45),
        smooth=area < 350_000 or rng.random() < 0.25,
    )


def plan(seed: int, index: int, shape: Shape | None = None) -> Flowchart:
    """The flowchart of this seed and index.

    Layouts and counts whose lettering would be too small to read once the processor
    has shrunk the picture are drawn again.
    """
    shape = shape or Shape()
    rng = generator(seed, index)
    width, height = _canvas(rng)
    rows, columns = shape.resized(height, width)
    scale = min(rows / height, columns / width)
    face = int(rng.integers(len(fonts.FACES)))
    counts = tuple(COUNTS)
    for attempt in itertools.count():
        if attempt % TRIES == 0:
            layout = LAYOUTS[int(rng.integers(len(LAYOUTS)))]
            count = counts[int(rng.integers(len(counts)))]
        nodes = _arrange(rng, width, height, layout, count)
        floor = SMALLEST_LETTERING / scale
        largest = _largest_lettering(nodes, face, _pick(rng, 15.0, 26.0) / scale, floor)
        if largest:
            size = max(floor, largest * _pick(rng, 0.85, 1.0))
            look = _look(rng, scale, face, size, width * height)
            return Flowchart(width, height, layout, tuple(nodes), look)
    raise AssertionError("unreachable")
