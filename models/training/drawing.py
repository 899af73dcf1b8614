"""Flowcharts to pictures.

Paints what flowcharts.py planned and encodes it as PNG or JPEG. Decides nothing at
random but the noise, whose numbers come from the caller.
"""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
from PIL import Image, ImageDraw

import fonts
from flowcharts import Flowchart, Look, Node, Random, Rgb, generator, slant

Point = tuple[float, float]
_TILE = 128


def outline_points(shape: str, left: float, top: float, width: float, height: float) -> list[Point]:
    """Corners of a polygonal node, clockwise from the left or the top left."""
    right, bottom = left + width, top + height
    x, y = left + width / 2, top + height / 2
    match shape:
        case "diamond":
            return [(left, y), (x, top), (right, y), (x, bottom)]
        case "hexagon":
            inset = min(0.24 * width, 0.5 * height)
            return [
                (left, y), (left + inset, top), (right - inset, top),
                (right, y), (right - inset, bottom), (left + inset, bottom),
            ]  # fmt: skip
        case "parallelogram":
            lean = slant(width, height)
            return [(left + lean, top), (right, top), (right - lean, bottom), (left, bottom)]
        case _:
            return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _paint_shape(
    draw: ImageDraw.ImageDraw, node: Node, zoom: float, rgb: Rgb, shift: float, corner: float
) -> None:
    left, top = (node.left + shift) * zoom, (node.top + shift) * zoom
    width, height = node.width * zoom, node.height * zoom
    if node.shape == "ellipse":
        draw.ellipse((left, top, left + width, top + height), fill=rgb)
    elif node.shape == "box" and corner:
        draw.rounded_rectangle(
            (left, top, left + width, top + height), radius=corner * zoom, fill=rgb
        )
    else:
        draw.polygon(outline_points(node.shape, left, top, width, height), fill=rgb)


def _shrunk(node: Node, by: float) -> Node:
    """The node without an outline of this width, which keeps its shape's angles."""
    factor = 1 - 2 * by / min(node.width, node.height)
    if node.shape in ("diamond", "hexagon", "parallelogram"):
        # A slanted edge is nearer to the centre than its corner, so it needs a little more.
        factor = 1 - 2.4 * by / min(node.width, node.height)
    width, height = node.width * factor, node.height * factor
    if node.shape in ("box", "ellipse"):
        width, height = node.width - 2 * by, node.height - 2 * by
    x, y = node.centre
    return Node(
        node.colour, node.shape, node.label, x - width / 2, y - height / 2, width, height, node.rgb
    )


def _darker(rgb: Rgb, factor: float) -> Rgb:
    red, green, blue = (int(value * factor) for value in rgb)
    return red, green, blue


def _paint_node(draw: ImageDraw.ImageDraw, node: Node, look: Look, zoom: float) -> None:
    if look.shadow:
        _paint_shape(draw, node, zoom, _darker(look.background, 0.72), look.shadow, look.corner)
    if look.hollow:
        rim, fill = node.rgb, look.background
    else:
        rim, fill = _darker(node.rgb, 0.6), node.rgb
    if not look.outline:
        _paint_shape(draw, node, zoom, fill, 0, look.corner)
        return
    _paint_shape(draw, node, zoom, rim, 0, look.corner)
    _paint_shape(draw, _shrunk(node, look.outline), zoom, fill, 0, look.corner)


def _anchor(node: Node, across: bool, leaving: bool) -> Point:
    """Where a connector meets a node."""
    x, y = node.centre
    if not across:
        return x, node.top + (node.height if leaving else 0)
    inset = slant(node.width, node.height) / 2 if node.shape == "parallelogram" else 0
    return (node.left + node.width - inset, y) if leaving else (node.left + inset, y)


def _paint_connector(
    draw: ImageDraw.ImageDraw, start: Point, end: Point, look: Look, zoom: float
) -> None:
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    room = math.dist(start, end)
    head = min(look.arrow, 0.6 * room)
    neck = (end[0] - 0.8 * head * math.cos(angle), end[1] - 0.8 * head * math.sin(angle))
    width = max(1, round(look.line * zoom))
    draw.line([(x * zoom, y * zoom) for x, y in (start, neck)], fill=look.ink, width=width)
    wings = [
        (end[0] - head * math.cos(angle + turn), end[1] - head * math.sin(angle + turn))
        for turn in (-0.45, 0.45)
    ]
    draw.polygon([(x * zoom, y * zoom) for x, y in (end, *wings)], fill=look.ink)


def _paint_grid(draw: ImageDraw.ImageDraw, chart: Flowchart, zoom: float) -> None:
    look = chart.look
    columns = np.arange(look.grid / 2, chart.width, look.grid) * zoom
    rows = np.arange(look.grid / 2, chart.height, look.grid) * zoom
    width = max(1, round(zoom * look.line / 2))
    if look.dots:
        for y in rows:
            for x in columns:
                draw.rectangle((x, y, x + width, y + width), fill=look.grid_rgb)
        return
    for x in columns:
        draw.line((x, 0, x, chart.height * zoom), fill=look.grid_rgb, width=width)
    for y in rows:
        draw.line((0, y, chart.width * zoom, y), fill=look.grid_rgb, width=width)


def _paint_label(draw: ImageDraw.ImageDraw, node: Node, look: Look) -> None:
    ground = look.background if look.hollow else node.rgb
    red, green, blue = ground
    light = 0.299 * red + 0.587 * green + 0.114 * blue > 135
    x, y = node.centre
    half = fonts.edges(look.face, node.label)[-1] * look.letter_size / 2
    base = y + fonts.capital_height(look.face) * look.letter_size / 2
    font = fonts.load(look.face, round(look.letter_size * 4) / 4)
    ink = (12, 12, 14) if light else (250, 250, 250)
    draw.text((x - half, base), node.label, font=font, fill=ink, anchor="ls")


def paint(chart: Flowchart, transparent: bool = False) -> Image.Image:
    """The clean picture: RGB, or RGBA on nothing at all."""
    zoom = 2 if chart.look.smooth else 1
    size = (chart.width * zoom, chart.height * zoom)
    mode, ground = ("RGBA", (0, 0, 0, 0)) if transparent else ("RGB", chart.look.background)
    image = Image.new(mode, size, ground)
    draw = ImageDraw.Draw(image)
    if chart.look.grid and not transparent:
        _paint_grid(draw, chart, zoom)
    across = chart.layout == "left-to-right"
    for node in chart.nodes:
        _paint_node(draw, node, chart.look, zoom)
    for before, after in itertools.pairwise(chart.nodes):
        start, end = _anchor(before, across, True), _anchor(after, across, False)
        _paint_connector(draw, start, end, chart.look, zoom)
    if zoom > 1:
        image = image.reduce(zoom)
    draw = ImageDraw.Draw(image)
    for node in chart.nodes:
        _paint_label(draw, node, chart.look)
    return image


def add_noise(image: Image.Image, deviation: float, rng: Random) -> Image.Image:
    """Grain: one tile of it, repeated, because fresh grain costs more than the drawing."""
    tile = rng.standard_normal((_TILE, _TILE, 3), dtype=np.float32) * deviation
    pixels = np.asarray(image, dtype=np.int16)
    rows, columns = -(-pixels.shape[0] // _TILE), -(-pixels.shape[1] // _TILE)
    grain = np.tile(tile.astype(np.int16), (rows, columns, 1))
    noisy = pixels + grain[: pixels.shape[0], : pixels.shape[1]]
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def draw(chart: Flowchart, seed: int, index: int) -> Image.Image:
    """The picture before it is encoded."""
    image = paint(chart)
    if chart.look.noise:
        image = add_noise(image, chart.look.noise, generator(seed, index + 2**40))
    return image


def encode(chart: Flowchart, image: Image.Image) -> bytes:
    """The picture file's bytes: JPEG at the planned quality, or PNG."""
    buffer = io.BytesIO()
    if chart.look.jpeg:
        image.save(buffer, "JPEG", quality=chart.look.jpeg)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
