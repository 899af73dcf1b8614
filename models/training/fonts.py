"""The typefaces that flowcharts are lettered with, from plain ``pip install`` alone.

Pillow's own face, and faces of the ``font-*`` packages that are listed in FACES.
Loads files by package and name; knows nothing of what is written with them.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

# Package and file; sorted by name, so that a number means one face on every machine.
FACES = (
    ("font_caladea", "Caladea-Bold.ttf"),
    ("font_caladea", "Caladea-Regular.ttf"),
    ("font_hanken_grotesk", "HankenGrotesk-Bold.otf"),
    ("font_hanken_grotesk", "HankenGrotesk-Medium.otf"),
    ("font_manrope", "Manrope-Bold.ttf"),
    ("font_manrope", "Manrope-Medium.ttf"),
    ("font_roboto", "Roboto-Bold.ttf"),
    ("font_roboto", "Roboto-Medium.ttf"),
    ("font_roboto", "Roboto-Regular.ttf"),
    ("font_source_sans_pro", "SourceSansPro-Bold.ttf"),
    ("font_source_sans_pro", "SourceSansPro-Semibold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Semibold.ttf"),
    ("pillow", "default"),
)
REFERENCE_SIZE = 64.0


def _path(package: str, name: str) -> Path:
    """The font's file in its package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"{name} is missing: python -m pip install {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent / "files" / name


@lru_cache(maxsize=2048)
def load(face: int, size: float) -> ImageFont.FreeTypeFont:
    """A face at a size in pixels; basic layout, which every Pillow has."""
    package, name = FACES[face]
    if package == "pillow":
        font = ImageFont.load_default(size)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise RuntimeError("Pillow was built without FreeType")
        return font
    return ImageFont.truetype(_path(package, name), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=4096)
def edges(face: int, text: str) -> tuple[float, ...]:
    """Where each letter starts and the last one ends, in multiples of the size."""
    font = load(face, REFERENCE_SIZE)
    return tuple(font.getlength(text[:end]) / REFERENCE_SIZE for end in range(len(text) + 1))


@lru_cache(maxsize=64)
def capital_height(face: int) -> float:
    """Height of a capital letter, in multiples of the size."""
    _, top, _, bottom = load(face, REFERENCE_SIZE).getbbox("H", anchor="ls")
    return (bottom - top) / REFERENCE_SIZE
