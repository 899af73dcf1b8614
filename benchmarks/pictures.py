"""Seeded pictures to caption: a folder of mixed sizes, and folders of many tiny ones."""

import random
import shutil
from pathlib import Path

from PIL import Image, ImageDraw

from captioner.pictures.decoding import fitted

SEED = 11
# width and height of what is in people's folders: pages, screenshots, photos, icons
SIZES = (
    (320, 240),
    (240, 320),
    (256, 256),
    (400, 300),
    (300, 400),
    (480, 320),
    (512, 384),
    (640, 360),
    (360, 640),
    (640, 480),
    (1280, 720),
    (200, 600),
)


LARGE_SIZES = (  # for the geometries that are not small
    (1920, 1080),
    (1280, 720),
    (1024, 768),
    (800, 600),
    (2480, 1754),
    (640, 480),
    (3024, 4032),
    (1440, 900),
)


def draw_mixed(
    directory: Path, number: int, large: bool = False, max_pixels: int = 0
) -> list[Path]:
    """PNG and JPEG files of mixed sizes, none above `max_pixels`, in the order in which a scan
    finds them."""
    directory.mkdir(parents=True, exist_ok=True)
    chance = random.Random(SEED)
    choice = LARGE_SIZES if large else SIZES
    sizes = [fitted(choice[n % len(choice)], max_pixels) for n in range(number)]
    chance.shuffle(sizes)
    paths = []
    for n, size in enumerate(sizes):
        path = directory / f"picture-{n:04d}.{'jpg' if n % 2 else 'png'}"
        _draw(size, chance).save(path, quality=90)
        paths.append(path)
    return paths


def draw_tiny(directory: Path, number: int) -> None:
    """`number` different pictures of 64 × 64 pixels."""
    directory.mkdir(parents=True, exist_ok=True)
    chance = random.Random(SEED)
    for n in range(number):
        _draw((64, 64), chance, shapes=3).save(directory / f"tiny-{n:05d}.png")


def copy_tiny(directory: Path, number: int) -> None:
    """`number` files with the same picture of 64 × 64 pixels."""
    draw_tiny(directory, 1)
    (first,) = directory.iterdir()
    for n in range(1, number):
        shutil.copyfile(first, directory / f"tiny-{n:05d}.png")


def _draw(size: tuple[int, int], chance: random.Random, shapes: int = 40) -> Image.Image:
    soft = Image.frombytes("RGB", (8, 8), chance.randbytes(192))  # photos are not flat
    image = soft.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(shapes):
        x, y = chance.randrange(size[0]), chance.randrange(size[1])
        box = (x, y, x + chance.randrange(8, size[0]), y + chance.randrange(8, size[1]))
        colour = tuple(chance.randrange(256) for _ in range(3))
        draw.rectangle(box, fill=colour) if chance.random() < 0.5 else draw.ellipse(box, colour)
    return image
