"""Pictures of every mode and shape, whole and broken: what a person sees is what the model gets."""

import logging
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from captioner.errors import UnreadableImage
from captioner.pictures.decoding import fitted, load_image
from captioner.pictures.reading import AT_ONCE
from tests.checking import check_image
from tests.conftest import ROOT

Pixels = np.ndarray[Any, np.dtype[Any]]

WIDTH, HEIGHT = 24, 16
WHITE = (255, 255, 255)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


# --- pictures whose pixels are known by arithmetic, not by Pillow's conversions ---


def gradient(channels: int) -> Pixels:
    """HEIGHT × WIDTH × channels, each channel another ramp over all of 0 to 255."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    across, down = x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1)
    ramps = [across, down, 255 - across, 255 - (across + down) // 2]
    return np.stack(ramps[:channels], axis=-1).astype(np.uint8)


def composited(colour: Pixels, alpha: Pixels, ground: tuple[int, ...] = WHITE) -> Pixels:
    """Every sample mixed with the one of the background that shows through."""
    share = alpha[..., None] / 255
    return np.rint(colour * share + np.array(ground) * (1 - share))


def grey(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=-1)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(
    size: tuple[int, int],
    depth: int,
    colour_type: int,
    rows: bytes,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG file; `rows` are its rows, each with its filter byte; `before` and `after` the data."""
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows))
    return SIGNATURE + chunk(b"IHDR", header) + before + data + after + chunk(b"IEND", b"")


def rows_of(samples: Pixels) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in samples)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def pixels(path: Path, max_pixels: int = 0) -> Pixels:
    image = load_image(path, max_pixels)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def difference(found: Pixels, expected: Pixels) -> int:
    assert found.shape == expected.shape
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


# --- every mode that Pillow writes as PNG ---


def one_bit() -> tuple[Image.Image, Pixels]:
    on = gradient(1)[..., 0] > 127
    return Image.fromarray(on), grey(on * 255)


def l_mode() -> tuple[Image.Image, Pixels]:
    values = gradient(1)[..., 0]
    return Image.fromarray(values), grey(values)


def la_mode() -> tuple[Image.Image, Pixels]:
    values = gradient(2)
    return Image.fromarray(values), composited(grey(values[..., 0]), values[..., 1])


def rgb_mode() -> tuple[Image.Image, Pixels]:
    return Image.fromarray(gradient(3)), gradient(3)


def rgba_mode() -> tuple[Image.Image, Pixels]:
    values = gradient(4)
    return Image.fromarray(values), composited(values[..., :3], values[..., 3])


def i16_mode() -> tuple[Image.Image, Pixels]:
    values = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    return Image.fromarray(values), grey(np.rint(values / 257))


def palette_of(colours: Pixels) -> tuple[Image.Image, Pixels]:
    indices = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % len(colours)
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(colours.astype(np.uint8).tobytes())
    return image, indices


PALETTE = np.array([[0, 0, 0], [255, 0, 0], [10, 200, 30], [0, 0, 255], [250, 250, 5]])


def p_mode() -> tuple[Image.Image, Pixels]:
    image, indices = palette_of(PALETTE)
    return image, PALETTE[indices]


@pytest.mark.parametrize(
    "make",
    [one_bit, l_mode, la_mode, rgb_mode, rgba_mode, i16_mode, p_mode],
    ids=lambda m: m.__name__,
)
def test_every_mode_of_png(make: Callable[[], tuple[Image.Image, Pixels]], tmp_path: Path) -> None:
    image, expected = make()
    path = saved(tmp_path / "a.png", image)
    assert check_image(path) == (WIDTH, HEIGHT)
    assert difference(pixels(path), expected) <= 1
    if make not in (la_mode, rgba_mode):
        assert difference(pixels(path), expected) == 0


def test_one_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    image, indices = palette_of(PALETTE)
    path = saved(tmp_path / "a.png", image, transparency=0)
    colours = PALETTE.copy()
    colours[0] = 255
    assert difference(pixels(path), colours[indices]) == 0


def test_a_palette_with_alpha_is_composited_composited(tmp_path: Path) -> None:
    image, indices = palette_of(PALETTE)
    alphas = np.array([0, 64, 128, 200, 255])
    path = saved(tmp_path / "a.png", image, transparency=bytes(alphas.astype(np.uint8)))
    expected = composited(PALETTE[indices], alphas[indices])
    assert difference(pixels(path), expected) <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_is_in_units_of_the_file(depth: int, tmp_path: Path) -> None:
    top = (1 << depth) - 1
    levels = [0, top // 3, top - top // 3, top] if depth > 1 else [0, 1, 0, 1]
    bits = "".join(f"{level:0{depth}b}" for level in levels)
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8)
    clear = chunk(b"tRNS", struct.pack(">H", levels[1]))
    path = tmp_path / "a.png"
    path.write_bytes(png((4, 1), depth, 0, row, clear))
    expected = [255 if level == levels[1] else round(level * 255 / top) for level in levels]
    assert pixels(path)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_an_rgb_png(depth: int, tmp_path: Path) -> None:
    clear, opaque = np.array([10, 20, 30]), np.array([200, 100, 50])
    samples = np.array([[clear, opaque]])
    if depth == 16:
        samples = samples * 256 + 99
    chunk_of_it = chunk(b"tRNS", struct.pack(">3H", *samples[0, 0]))
    path = tmp_path / "a.png"
    rows = rows_of(samples.astype(">u1" if depth == 8 else ">u2"))
    path.write_bytes(png((2, 1), depth, 2, rows, chunk_of_it))
    assert difference(pixels(path), np.array([[[255, 255, 255], opaque]])) <= 1


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colours(colour_type: int, channels: int, tmp_path: Path) -> None:
    values = gradient(channels)
    path = tmp_path / "a.png"
    samples = (values.astype(np.uint32) * 257).astype(">u2")
    path.write_bytes(png((WIDTH, HEIGHT), 16, colour_type, rows_of(samples)))
    expected = values[..., :3] if channels > 2 else grey(values[..., 0])
    if channels in (2, 4):
        expected = composited(expected, values[..., -1])
    assert difference(pixels(path), expected) <= 1


def test_a_16_bit_gradient_stays_a_gradient_when_it_is_scaled_down(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 512).astype(np.uint16), (64, 1))
    path = saved(tmp_path / "a.png", Image.fromarray(ramp))
    row = pixels(path, max_pixels=128 * 16)[8, :, 0]
    assert len(row) == 128
    assert (np.diff(row) >= 0).all()
    assert row[0] <= 2 and row[-1] >= 253
    assert abs(int(row[64]) - 128) <= 2


def test_text_behind_full_transparency_does_not_bleed_when_scaled(tmp_path: Path) -> None:
    """Fully transparent black beside opaque white: all of it is white, at every size."""
    values = np.zeros((64, 64, 4), np.uint8)
    values[:, ::2] = 255
    path = saved(tmp_path / "a.png", Image.fromarray(values))
    assert pixels(path, max_pixels=20 * 20).min() >= 254


# --- another background than white: a file, its colours and how opaque each pixel is ---


def deep(samples: Pixels, colour_type: int, before: bytes = b"") -> bytes:
    """A 16-bit PNG of 8-bit samples."""
    rows = rows_of((samples.astype(np.uint32) * 257).astype(">u2"))
    return png((WIDTH, HEIGHT), 16, colour_type, rows, before)


def clear_at(colours: Pixels) -> Pixels:
    """The opacity when the colour of the last pixel is the one that is see-through."""
    return np.where((colours == colours[-1, -1]).all(axis=-1), 0, 255)


def see_through(kind: str) -> tuple[bytes, Pixels, Pixels]:
    ramps = gradient(4)
    one, three = ramps[..., :1], ramps[..., :3]
    opacity = ramps[..., 3]
    size = (WIDTH, HEIGHT)
    last = b"".join(struct.pack(">H", sample) for sample in three[-1, -1].tolist())
    deep_last = b"".join(struct.pack(">H", sample * 257) for sample in three[-1, -1].tolist())
    indices = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % len(PALETTE)
    palette = chunk(b"PLTE", PALETTE.astype(np.uint8).tobytes())
    alphas = np.array([0, 64, 128, 200, 255])
    match kind:
        case "RGBA":
            return png(size, 8, 6, rows_of(ramps)), three, opacity
        case "LA":
            grey_and_alpha = np.dstack([one, opacity])
            return png(size, 8, 4, rows_of(grey_and_alpha)), grey(one[..., 0]), opacity
        case "RGBA, 16 bits":
            return deep(ramps, 6), three, opacity
        case "LA, 16 bits":
            return deep(np.dstack([one, opacity]), 4), grey(one[..., 0]), opacity
        case "palette":
            rows = rows_of(indices.astype(np.uint8))
            content = palette + chunk(b"tRNS", bytes(alphas.astype(np.uint8)))
            return png(size, 8, 3, rows, content), PALETTE[indices], alphas[indices]
        case "a colour":
            clear = chunk(b"tRNS", last)
            return png(size, 8, 2, rows_of(three), clear), three, clear_at(three)
        case "a colour, 16 bits":
            return deep(three, 2, chunk(b"tRNS", deep_last)), three, clear_at(three)
        case "a grey":
            clear = chunk(b"tRNS", last[:2])
            return png(size, 8, 0, rows_of(one), clear), grey(one[..., 0]), clear_at(one)
        case "a grey, 16 bits":
            content = chunk(b"tRNS", deep_last[:2])
            return deep(one, 0, content), grey(one[..., 0]), clear_at(one)
        case _:  # one bit: black is see-through
            on = one[..., 0] > 127
            rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(on, axis=1))
            content = chunk(b"tRNS", struct.pack(">H", 0))
            return png(size, 1, 0, rows, content), grey(on * 255), on * 255


@pytest.mark.parametrize(
    ("name", "ground"),
    [
        ("white", (255, 255, 255)),
        ("#1e90ff", (30, 144, 255)),
        ("#F80", (255, 136, 0)),
        ("DarkOrange", (255, 140, 0)),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        "RGBA",
        "LA",
        "RGBA, 16 bits",
        "LA, 16 bits",
        "palette",
        "a colour",
        "a colour, 16 bits",
        "a grey",
        "a grey, 16 bits",
        "one bit",
    ],
)
def test_what_is_transparent_shows_the_background(
    kind: str, name: str, ground: tuple[int, ...], tmp_path: Path
) -> None:
    content, colours, opacity = see_through(kind)
    assert opacity.min() < 5 and opacity.max() > 250
    path = tmp_path / "a.png"
    path.write_bytes(content)
    found = np.asarray(load_image(path, 0, name))
    assert difference(found, composited(colours, opacity, ground)) <= 1
    assert difference(found[opacity == 255], colours[opacity == 255]) <= 1


def test_the_background_is_behind_a_picture_that_is_turned_scaled_and_of_another_space(
    tmp_path: Path,
) -> None:
    """It is a colour in sRGB, whatever the profile of the picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGBA", (64, 32), (255, 0, 0, 0))
    path = saved(tmp_path / "a.png", image, icc_profile=SWAPPED, exif=exif)
    found = load_image(path, 200, "#1e90ff")
    assert found.size == (10, 20)
    assert difference(np.asarray(found), np.full((20, 10, 3), [30, 144, 255])) == 0


def test_an_opaque_picture_shows_no_background(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(gradient(3)))
    assert difference(np.asarray(load_image(path, 0, "black")), gradient(3)) == 0


def test_an_interlaced_png(tmp_path: Path) -> None:
    """The first of Adam7's passes holds the one pixel of a 1×1 picture."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    data = zlib.compress(b"\0\x01\x02\x03")
    path = tmp_path / "a.png"
    path.write_bytes(
        SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    assert pixels(path).tolist() == [[[1, 2, 3]]]


def test_the_first_frame_of_an_animated_png(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "green", "blue")]
    path = saved(tmp_path / "a.png", frames[0], save_all=True, append_images=frames[1:])
    assert b"acTL" in path.read_bytes()
    assert check_image(path) == (9, 7)
    assert difference(pixels(path), np.full((7, 9, 3), [255, 0, 0])) == 0


# --- every mode that Pillow writes as JPEG ---


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_in_grey_and_colour(channels: int, progressive: bool, tmp_path: Path) -> None:
    values = gradient(channels) if channels == 3 else gradient(1)[..., 0]
    image = Image.fromarray(values)
    options = {"quality": 95, "subsampling": 0} if channels == 3 else {"quality": 95}
    path = saved(tmp_path / "a.jpg", image, progressive=progressive, **options)
    assert check_image(path) == (WIDTH, HEIGHT)
    expected = values if channels == 3 else grey(values)
    assert np.abs(pixels(path) - expected.astype(int)).mean() < 3


@pytest.mark.parametrize(
    ("ink", "colour"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_cmyk_jpeg_is_not_inverted(
    ink: tuple[int, ...], colour: tuple[int, int, int], tmp_path: Path
) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), ink), quality=95)
    assert difference(pixels(path), np.full((16, 16, 3), colour)) <= 6


def test_the_main_picture_of_an_mpo(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (16, 8), "lime"), Image.new("RGB", (16, 8), "red")
    path = tmp_path / "camera.jpg"
    first.save(path, format="MPO", save_all=True, append_images=[second], quality=95)
    assert check_image(path) == (16, 8)
    assert difference(pixels(path), np.full((8, 16, 3), [0, 255, 0])) <= 4


def test_bytes_behind_a_jpeg_do_not_matter(tmp_path: Path) -> None:
    """Phones append a video to a photograph; its bytes look like anything."""
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (16, 16), "lime"))
    path.write_bytes(path.read_bytes() + b"\xff\xda" * 5000)
    assert check_image(path) == (16, 16)


# --- orientation ---

TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    # how the stored pixels are made from the upright ones, after the EXIF standard's table
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", sorted(TURNS))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_every_orientation_is_turned_upright(
    orientation: int, suffix: str, endian: str, tmp_path: Path
) -> None:
    upright = np.full((20, 40, 3), 255, np.uint8)
    upright[:8, :8] = [255, 0, 0]  # a red corner, top left
    upright[:8, 32:] = [0, 0, 255]  # a blue one, top right
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](upright)))
    exif = Image.Exif()
    exif.endian = endian
    exif[0x0131] = "a camera"
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    path = saved(tmp_path / f"a.{suffix}", stored, exif=exif, **options)
    assert check_image(path) == (40, 20)
    assert difference(pixels(path), upright) <= (60 if suffix == "jpg" else 0)
    assert load_image(path, max_pixels=200).size == (20, 10)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"nonsense",
        b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 500,
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",  # orientation 9
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03",
    ],
)
def test_a_damaged_exif_block_turns_nothing(exif: bytes, tmp_path: Path) -> None:
    values = gradient(3)
    path = tmp_path / "a.png"
    path.write_bytes(png((WIDTH, HEIGHT), 8, 2, rows_of(values), chunk(b"eXIf", exif)))
    assert check_image(path) == (WIDTH, HEIGHT)
    assert difference(pixels(path), values) == 0


# --- colour profiles ---


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC version 2 profile, written after the specification."""
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642) + fixed(1.0) + fixed(0.8249),
        **tags,
    }
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(content), len(value))
        content += value + b"\0" * (-len(value) % 4)
    header = struct.pack(">I", start + len(content)) + b"\0" * 4 + b"\x02\x10\0\0"
    header += kind + space + connection
    header = header.ljust(36, b"\0") + b"acsp" + b"\0" * 28
    header += fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return header.ljust(128, b"\0") + table + content


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def rgb_profile(red: bytes, green: bytes, blue: bytes, power: float) -> bytes:
    tags = {red: (0.4361, 0.2225, 0.0139), green: (0.3851, 0.7169, 0.0971)}
    tags[blue] = (0.1431, 0.0606, 0.7142)  # sRGB's primaries, adapted to D50
    colorants = {k + b"XYZ": b"XYZ \0\0\0\0" + b"".join(map(fixed, v)) for k, v in tags.items()}
    curves = {k + b"TRC": gamma(power) for k in tags}
    return profile(b"RGB ", b"XYZ ", b"mntr", colorants | curves)


LINEAR = rgb_profile(b"r", b"g", b"b", 1.0)
SWAPPED = rgb_profile(b"b", b"g", b"r", 2.2)  # what it calls blue is red
GREY_LINEAR = profile(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": gamma(1.0)})


def cmyk_profile() -> bytes:
    """Cyan, of all inks, prints as a middle grey; any other ink as black."""
    identity = bytes(range(256))
    grid = b""
    for node in range(16):
        cyan, others = node >> 3, node & 7
        grid += bytes([0 if others else 128 if cyan else 255, 128, 128])
    matrix = b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0\x04\x03\x02\0" + matrix + identity * 4 + grid + identity * 3
    return profile(b"CMYK", b"Lab ", b"prtr", {b"A2B0": table})


def encoded(linear: Pixels) -> Pixels:
    """Linear light, 0 to 1, as sRGB, 0 to 255 (IEC 61966-2-1)."""
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(curve * 255))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_linear_rgb_profile_is_converted_to_srgb(suffix: str, tmp_path: Path) -> None:
    colour = np.array([200, 128, 30])
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    image = Image.new("RGB", (16, 16), tuple(colour.tolist()))
    path = saved(tmp_path / f"a.{suffix}", image, icc_profile=LINEAR, **options)
    expected = np.broadcast_to(encoded(colour / 255), (16, 16, 3))
    assert difference(pixels(path), expected) <= (4 if suffix == "jpg" else 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_that_swaps_red_and_blue(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)
    path = saved(tmp_path / "a.png", image, icc_profile=SWAPPED)
    assert difference(pixels(path), np.full((4, 4, 3), [0, 0, 255])) <= 2


def test_alpha_is_kept_beside_a_profile(tmp_path: Path) -> None:
    """The background is white in sRGB, not in the profile's space."""
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    path = saved(tmp_path / "a.png", image, icc_profile=SWAPPED)
    expected = composited(np.full((4, 4, 3), [0, 0, 255]), np.full((4, 4), 128))
    assert difference(pixels(path), expected) <= 2


@pytest.mark.parametrize(("mode", "colour"), [("L", 128), ("LA", (128, 255)), ("1", 255)])
def test_a_grey_profile(mode: str, colour: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new(mode, (4, 4), colour), icc_profile=GREY_LINEAR)
    level = colour[0] if isinstance(colour, tuple) else colour
    expected = np.full((4, 4, 3), encoded(np.array(level / 255)))
    assert difference(pixels(path), expected) <= 2


def test_a_grey_profile_on_16_bits(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((4, 4), 128 * 257, np.uint16))
    path = saved(tmp_path / "a.png", image, icc_profile=GREY_LINEAR)
    assert difference(pixels(path), np.full((4, 4, 3), encoded(np.array(128 / 255)))) <= 2


def test_an_rgb_profile_on_a_grey_jpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("L", (16, 16), 128), icc_profile=LINEAR, quality=95)
    expected = np.full((16, 16, 3), encoded(np.array(128 / 255)))
    assert difference(pixels(path), expected) <= 3
    assert not caplog.records


def test_a_cmyk_profile(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    path = saved(tmp_path / "a.jpg", image, icc_profile=cmyk_profile(), quality=95)
    # L* 128/255*100 = 50.2 is 18.6 % of white's light
    expected = encoded(np.array(((50.2 + 16) / 116) ** 3))
    assert difference(pixels(path), np.full((16, 16, 3), expected)) <= 4


def test_the_profile_of_srgb_changes_nothing(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(tmp_path / "a.png", Image.fromarray(gradient(3)), icc_profile=icc)
    assert difference(pixels(path), gradient(3)) <= 1


def test_a_profile_of_many_segments(tmp_path: Path) -> None:
    padded = rgb_profile(b"b", b"g", b"r", 2.2) + b"\0" * 200_000
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    path = saved(tmp_path / "a.jpg", image, icc_profile=padded, quality=95)
    assert path.read_bytes().count(b"ICC_PROFILE\0") >= 4
    assert difference(pixels(path), np.full((16, 16, 3), [0, 0, 255])) <= 6


@pytest.mark.parametrize(
    "icc",
    [b"nonsense", LINEAR[:200], GREY_LINEAR, b"\0" * 4000],
    ids=["nonsense", "cut", "of another space", "zeros"],
)
def test_a_damaged_profile_is_ignored_with_a_warning(
    icc: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = gradient(3)
    path = saved(tmp_path / "two\nlines.png", Image.fromarray(values), icc_profile=icc)
    with caplog.at_level(logging.WARNING, logger="captioner.pictures.colours"):
        found = pixels(path)
    assert difference(found, values) == 0
    (record,) = caplog.records
    assert record.name == "captioner.pictures.colours"
    assert record.levelno == logging.WARNING
    assert "profile is damaged and was ignored" in record.getMessage()
    assert "two\\nlines.png" in record.getMessage()


@pytest.mark.parametrize("content", [b"", b"a\0\0", b"a\0\0not zlib", b"a" * 500])
def test_a_damaged_iccp_chunk(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.png"
    values = gradient(3)
    path.write_bytes(png((WIDTH, HEIGHT), 8, 2, rows_of(values), chunk(b"iCCP", content)))
    assert difference(pixels(path), values) == 0
    assert "damaged" in caplog.text


def test_a_jpeg_that_lacks_a_segment_of_its_profile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    path = saved(tmp_path / "a.jpg", image, icc_profile=SWAPPED + b"\0" * 200_000, quality=95)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"ICC_PROFILE\0\x02", b"ICC_PROFILF\0\x02"))
    assert difference(pixels(path), np.full((16, 16, 3), [255, 0, 0])) <= 6
    assert "damaged" in caplog.text


# --- sizes ---


def test_max_pixels_is_never_exceeded_and_the_shape_is_kept() -> None:
    numbers = random.Random(6)
    for _ in range(20_000):
        long = numbers.randint(1, 20_000)
        short = numbers.randint(-(-long // 200), long)
        size = (long, short) if numbers.random() < 0.5 else (short, long)
        most = numbers.choice([1, 2, 7, 100, 1000, 50_000, 2_097_152, numbers.randint(1, 10**7)])
        width, height = fitted(size, most)
        assert 1 <= width <= size[0] and 1 <= height <= size[1]
        assert width * height <= most
        assert max(width, height) <= 200 * min(width, height)
        if size[0] * size[1] <= most:
            assert (width, height) == size
            continue
        scale = math.sqrt(most / (size[0] * size[1]))
        if min(size) * scale >= 1:  # off by the rounding of the short side, at most
            bound = 1 + max(size) / min(size)
            assert abs(width - size[0] * scale) <= bound and abs(height - size[1] * scale) <= bound
        assert size[0] == size[1] or (width > height) == (size[0] > size[1]) or width == height


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("most", [1, 99, 1000, 59_999, 60_000, 10**9])
def test_loaded_pictures_have_max_pixels_at_most(suffix: str, most: int, tmp_path: Path) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.new("RGB", (300, 200), "lime"))
    width, height = load_image(path, most).size
    assert width * height <= most
    if most >= 60_000:
        assert (width, height) == (300, 200)
    elif most >= 99:
        assert abs(width / height - 1.5) < 1.5 / height + 1 / width


def test_zero_scales_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("L", (2000, 1500)))
    assert load_image(path, 0).size == (2000, 1500)


def test_big_jpegs_are_decoded_at_a_reduced_scale_and_look_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[0:1500, 0:2000]
    values = np.stack([x * 255 // 2000, y * 255 // 1500, (x // 40 + y // 40) % 2 * 255], -1)
    full = Image.fromarray(values.astype(np.uint8))
    path = saved(tmp_path / "a.jpg", full, quality=92, subsampling=0)

    reduced = pixels(path, max_pixels=200 * 150)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB").resize((200, 150), Image.Resampling.LANCZOS))
    assert np.abs(reduced - expected.astype(int)).mean() < 1.5
    # not one pixel would differ after a full decode
    assert difference(reduced, expected) > 0


def test_a_single_pixel(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        path = saved(tmp_path / f"a.{suffix}", Image.new("RGB", (1, 1), "white"))
        assert check_image(path) == (1, 1)
        assert pixels(path, max_pixels=1).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 201), (402, 2), (401, 2)])
def test_an_aspect_ratio_over_200_is_refused(
    size: tuple[int, int], suffix: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.new("RGB", size))
    for attempt in (check_image, lambda path: load_image(path, 1000)):
        with pytest.raises(UnreadableImage, match=f"{size[0]}×{size[1]}.*aspect ratio over 200"):
            attempt(path)


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (400, 2)])
def test_an_aspect_ratio_of_200_is_taken(size: tuple[int, int], tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", size))
    assert check_image(path) == size


# --- broken files ---


def reason(path: Path) -> str:
    """Why neither function takes the file; both must say the same, in one line."""
    with pytest.raises(UnreadableImage) as checked:
        check_image(path)
    with pytest.raises(UnreadableImage) as loaded:
        load_image(path, 1000)
    assert str(checked.value) == str(loaded.value)
    assert len(str(checked.value).splitlines()) == 1
    return str(checked.value)


def noise(size: tuple[int, int] = (120, 90)) -> Image.Image:
    values = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.99, 0.9995])
@pytest.mark.parametrize("kind", ["png", "jpg", "progressive.jpg"])
def test_truncated_files_are_refused(kind: str, part: float, tmp_path: Path) -> None:
    options = {"progressive": True} if kind.startswith("progressive") else {}
    path = saved(tmp_path / f"a.{kind}", noise(), **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    reason(path)


@pytest.mark.parametrize("rows", [1, 45, 89])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_rows_that_are_missing_from_a_well_formed_png_are_noticed(
    rows: int, channels: int, tmp_path: Path
) -> None:
    """Pillow alone takes them for black: the file is whole, but its data end early."""
    values = np.random.default_rng(1).integers(0, 256, (90, 120, channels), dtype=np.uint8)
    colour_type = {1: 0, 3: 2, 4: 6}[channels]
    path = tmp_path / "a.png"
    path.write_bytes(png((120, 90), 8, colour_type, rows_of(values)))
    assert check_image(path) == (120, 90)
    path.write_bytes(png((120, 90), 8, colour_type, rows_of(values[:rows])))
    with pytest.raises(UnreadableImage, match="the last rows are missing"):
        check_image(path)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (9, 2), (33, 17)])
@pytest.mark.parametrize("depth", [1, 8])
def test_an_interlaced_png_is_whole_or_not(
    size: tuple[int, int], depth: int, tmp_path: Path
) -> None:
    """Adam7: a black picture in seven passes, with one byte too few, then with all of them."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = b""
    for x, y, across, down in [*passes, (0, 1, 1, 2)]:
        columns = len(range(x, size[0], across))
        if columns:
            rows += (b"\0" * (1 + math.ceil(columns * depth / 8))) * len(range(y, size[1], down))
    header = struct.pack(">IIBBBBB", *size, depth, 0, 0, 0, 1)
    path = tmp_path / "a.png"
    for data in (rows[:-1], rows):
        content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data))
        path.write_bytes(SIGNATURE + content + chunk(b"IEND", b""))
        if data != rows:
            with pytest.raises(UnreadableImage):
                check_image(path)
    assert check_image(path) == size
    assert difference(pixels(path), np.zeros((size[1], size[0], 3))) == 0


def test_a_png_without_its_end_but_with_all_rows_is_whole(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", noise())
    path.write_bytes(path.read_bytes()[:-12])
    assert difference(pixels(path), np.asarray(noise())) == 0


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", noise())
    data = path.read_bytes()
    for position in range(60, len(data) - 20, len(data) // 40):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        reason(path)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_a_flipped_bit_in_what_pixels_depend_on_is_noticed(kind: bytes, tmp_path: Path) -> None:
    image, _ = palette_of(PALETTE)
    path = saved(tmp_path / "a.png", image, transparency=bytes([0, 64, 128, 200, 255]))
    data = bytearray(path.read_bytes())
    data[data.index(kind) + 5] ^= 1
    path.write_bytes(data)
    assert "checksum" in reason(path)


def test_a_wrong_checksum_of_the_pixels_is_noticed(tmp_path: Path) -> None:
    """As libpng does; Pillow alone does not look."""
    path = saved(tmp_path / "a.png", noise())
    data = bytearray(path.read_bytes())
    data[-13] ^= 1  # the last byte before IEND
    path.write_bytes(data)
    assert reason(path) == "damaged or unreadable: bad checksum of IDAT"


@pytest.mark.parametrize("clear", [b"", chunk(b"tRNS", b"\0\x07")])
def test_a_png_has_one_header_and_it_comes_first(clear: bytes, tmp_path: Path) -> None:
    """Pillow takes the last one; the depth of a see-through grey was taken from the first."""
    path = tmp_path / "a.png"
    plain = png((WIDTH, HEIGHT), 8, 0, rows_of(gradient(1)), clear)
    header = plain[8:33]
    other = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 0, 3, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(768))
    for start in (other + header, other + palette + header, header + other, palette + header):
        path.write_bytes(plain[:8] + start + plain[33:])
        assert reason(path) == "damaged or unreadable: not one header at its beginning"
    path.write_bytes(plain)
    assert check_image(path) == (WIDTH, HEIGHT)


def test_a_file_of_no_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).write_bytes(b"")
        assert reason(tmp_path / name) == "empty file"


@pytest.mark.parametrize("content", [b"hello", b"<svg/>", b"\x89PNG\r\n\x1a", b"\xff\xd8", b"\0"])
def test_text_renamed_to_png(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert reason(path) == "not a PNG or JPEG file"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "BMP", "TIFF"])
def test_other_formats_renamed_to_png(format: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, format=format)
    assert reason(path) == "not a PNG or JPEG file"


def test_a_jpeg_renamed_to_png_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "lime").save(path, format="JPEG")
    assert check_image(path) == (8, 8)


@pytest.mark.parametrize(
    "content",
    [
        SIGNATURE,
        SIGNATURE + chunk(b"IEND", b""),
        png((0, 0), 8, 2, b""),
        png((8, 0), 8, 2, b""),
        png((8, 8), 3, 2, b"\0" * 500),
        png((8, 8), 8, 7, b"\0" * 500),
        png((8, 8), 8, 3, b"\0" * 72)[:40],
        SIGNATURE + chunk(b"IDAT", zlib.compress(b"\0" * 72)) + chunk(b"IEND", b""),
        SIGNATURE + chunk(b"IHDR", b"\0"),
        SIGNATURE + b"\0\0\0\0\0\0\0\0" * 10,
        SIGNATURE + b"\xff\xff\xff\xffIDAT",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + b"\xff" * 5000,
        b"\xff\xd8\xff\xe0\0\0\xff\xe0\0\x01",
        b"\xff\xd8\xff\xda\0\x02",
        b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\0\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0\xff\xd9",
        b"\xff\xd8\xff\xc0\0\x0b\x0c\0\x08\0\x08\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0",
    ],
    ids=range(18),
)
def test_hardly_a_file_at_all(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    reason(path)


def test_a_reason_is_in_no_programmers_words(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", noise())
    data = path.read_bytes()
    start = data.index(b"\xff\xc0")
    path.write_bytes(data[:start] + b"\xff\xc0\0\x03\x08" + data[start + 19 :])
    assert reason(path) == "damaged or unreadable"  # Pillow: unpack_from requires a buffer of ...


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "directory.png").mkdir()
    assert reason(tmp_path / "directory.png") == "not a regular file"
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    assert reason(tmp_path / "dangling.png") == "the file is not there any more"
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert reason(tmp_path / "loop.png").startswith("cannot be read: ")
    assert reason(tmp_path / "missing.png") == "the file is not there any more"
    os.mkfifo(tmp_path / "fifo.png")  # opening it would wait for ever
    assert reason(tmp_path / "fifo.png") == "not a regular file"


def test_a_file_without_read_permission() -> None:
    """Root may read all files, so root is not root meanwhile."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = saved(Path(directory) / "a.png", noise())
        path.chmod(0o000)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            assert reason(path) == "cannot be read: Permission denied"
        finally:
            if was_root:
                os.seteuid(0)


# --- hostile files: bounded in time and memory, and silent ---


def test_a_bomb_is_refused_at_once_and_without_memory(tmp_path: Path) -> None:
    jpeg = saved(tmp_path / "b.jpg", noise()).read_bytes()
    start = jpeg.index(b"\xff\xc0") + 5  # where the height and the width are
    bombs = {
        "big.png": png((60_000, 60_000), 8, 2, b"\0" * 100_000),
        "just.png": png((13_378, 13_378), 1, 0, b"\0" * 100),
        "big.jpg": jpeg[:start] + struct.pack(">HH", 60_000, 60_000) + jpeg[start + 4 :],
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
        assert reason(tmp_path / name) == "more than 178,956,970 pixels"
    # in a process of its own, whose peak of memory and whose time are its own
    script = """
import sys, time
from pathlib import Path
from captioner.errors import UnreadableImage
from captioner.pictures.decoding import load_image
from tests.checking import check_image
from tests.memory import peak_kilobytes
before, began = peak_kilobytes(), time.process_time()
for name in sys.argv[1:]:
    for attempt in (check_image, lambda path: load_image(path, 1000)):
        try:
            attempt(Path(name))
        except UnreadableImage:
            pass
print(peak_kilobytes() - before)
print(time.process_time() - began)
"""
    arguments = [sys.executable, "-W", "error", "-c", script, *(str(tmp_path / n) for n in bombs)]
    run = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    kilobytes, seconds = map(float, run.stdout.split())
    assert run.stderr == ""
    assert kilobytes < 20_000
    assert seconds < 1


def kilobytes_for(script: str, *arguments: Path) -> float:
    """How much more memory a process of its own takes for `script`."""
    measured = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from captioner.pictures.decoding import load_image
from captioner.pictures.reading import validate
from captioner.records import Job, Picture
from tests.memory import peak_kilobytes
before = peak_kilobytes()
{script}
print(peak_kilobytes() - before)
"""
    command = [sys.executable, "-W", "error", "-c", measured, *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert run.stderr == ""
    return float(run.stdout)


def test_many_large_pictures_take_the_memory_of_those_that_are_read_at_once(tmp_path: Path) -> None:
    """Validation runs ahead on as many threads as there are pictures in a window."""
    path = saved(tmp_path / "a.png", Image.new("L", (8_000, 8_000)), compress_level=1)
    picture = "Picture('a.png', Path(sys.argv[1]).parent)"
    one = f"validate(Job({picture}, 'a.json', 1, 1), max_pixels=100)"
    many = f"""
with ThreadPoolExecutor(12) as threads:
    list(threads.map(lambda _: {one}, range(12)))
"""
    alone = kilobytes_for(one, path)
    assert alone > 40_000
    assert kilobytes_for(many, path) < (AT_ONCE + 0.5) * alone


def test_16_bits_of_a_large_picture_take_no_more_memory_than_colours(tmp_path: Path) -> None:
    size = (3_000, 3_000)
    grey = saved(tmp_path / "a.png", Image.new("I;16", size), compress_level=1)
    colours = saved(tmp_path / "b.png", Image.new("RGBA", size), compress_level=1)
    load = "load_image(Path(sys.argv[1]), 100_000)"
    assert kilobytes_for(load, grey) < 1.4 * kilobytes_for(load, colours)


def text_bomb(kind: bytes, size: int) -> bytes:
    packed = zlib.compress(bytes(size), 1)
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    return chunk(kind, head + packed)


@pytest.mark.parametrize(
    "before",
    [
        chunk(b"tEXt", b"mxfile\0" + b"x" * 3_000_000),
        text_bomb(b"zTXt", 70_000_000),
        text_bomb(b"iTXt", 70_000_000),
        text_bomb(b"zTXt", 1_000_000) * 80,
        text_bomb(b"iCCP", 100_000_000),
        chunk(b"tEXt", b"a\0b") * 20_000,
        chunk(b"prVt", b"") * 20_000,
        chunk(
            b"eXIf",
            b"II*\0\x08\0\0\0\xff\xff" + b"\x0f\x01\x02\0\xff\xff\xff\x7f\0\0\0\x7f" * 65_535,
        ),
        chunk(b"acTL", b"\xff\xff\xff\xff\0\0\0\0") + chunk(b"fcTL", b"\0" * 26),
        chunk(b"acTL", b"") + chunk(b"gAMA", b"") + chunk(b"pHYs", b"") + chunk(b"cHRM", b"\1"),
        chunk(b"sRGB", b"") + chunk(b"zTXt", b"a\0\x07") + chunk(b"iTXt", b"\xff" * 9),
    ],
    ids=[
        "long text",
        "zTXt bomb",
        "iTXt bomb",
        "many zTXt",
        "iCCP bomb",
        "20,000 texts",
        "20,000 private",
        "huge EXIF",
        "absurd animation",
        "cut chunks",
        "bent chunks",
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_metadata_cannot_hurt(before: bytes, place: str, tmp_path: Path) -> None:
    """Pictures that browsers show, and that Pillow alone refuses, warns of or swells from."""
    values = gradient(3)
    path = tmp_path / "a.png"
    path.write_bytes(png((WIDTH, HEIGHT), 8, 2, rows_of(values), **{place: before}))
    began = time.process_time()
    tracemalloc.start()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert check_image(path) == (WIDTH, HEIGHT)
        assert difference(pixels(path), values) == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not heard
    assert time.process_time() - began < 4
    assert peak < 60_000_000


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\xff" * 60_000) * 200,
        segment(
            0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + b"\x01\x1a\0\x05\0\0\0\x01\xff\xff\xff\xff" * 2
        ),
        segment(0xE2, b"ICC_PROFILE\0\x01\xff" + b"\xff" * 60_000) * 100,
        segment(0xE2, b"MPF\0" + b"\xff" * 100),
        segment(0xFE, b"comment") * 20_000,
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 1000) * 50,
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>6") * 5,
        b"\xff" * 100_000,
    ],
    ids=["EXIF", "cut EXIF", "ICC", "MPF", "comments", "Photoshop", "XMP", "fill bytes"],
)
def test_jpeg_metadata_cannot_hurt(extra: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (16, 16), "lime"), quality=95)
    data = path.read_bytes()
    path.write_bytes(data[:2] + extra + data[2:])
    began = time.process_time()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert check_image(path) == (16, 16)
        assert difference(pixels(path), np.full((16, 16, 3), [0, 255, 0])) <= 3
    assert not heard
    assert time.process_time() - began < 2


def test_a_jpeg_of_too_many_scans_is_refused(tmp_path: Path) -> None:
    """Each scan of a few bytes costs time for every pixel: a picture that takes minutes."""
    path = saved(tmp_path / "a.jpg", noise(), progressive=True)
    data = path.read_bytes()
    start = data.rindex(b"\xff\xda")
    assert "scans" not in str(check_image(path))
    path.write_bytes(data[:start] + data[start:-2] * 150 + b"\xff\xd9")
    assert reason(path) == "more than 100 scans"


def test_too_many_chunks_and_too_many_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png((1, 1), 8, 0, b"\0\0", before=chunk(b"prVt", b"") * 1_000_001))
    assert reason(path) == "more than 1,000,000 chunks"
    with path.open("wb") as file:  # a sparse file: it takes no room on the disk
        file.write(SIGNATURE)
        file.truncate((1 << 30) + 1)
    assert reason(path) == "more than 1,073,741,824 bytes"
