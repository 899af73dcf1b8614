"""The table of picture formats: how a file of each is named, known, measured and opened.

A new format is an entry here, and its name in the setting `formats`. Knows nothing of pixels.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from captioner.errors import UnreadableImage
from captioner.pictures import headers, heif, opened
from captioner.pictures.formats import JPEG_SIGNATURE, PNG_SIGNATURE
from captioner.pictures.headers import Size
from captioner.pictures.opened import Opened
from captioner.pictures.tiff import tiff_size

START = 512  # bytes of a file by which its format is known
ALL = "all"
DEFAULT = ("png", "jpg", "jpeg")
BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}


@dataclass(frozen=True, slots=True)
class Kind:
    """A picture format."""

    name: str
    suffixes: Mapping[str, tuple[str, ...]]  # by what the setting calls it
    media_type: str
    is_it: Callable[[bytes], bool]  # by the first `START` bytes of a file
    size: Callable[[BinaryIO], Size]  # of an open file; (0, 0) when there is no picture in it
    opened: Callable[[bytes], Opened]
    is_readable: Callable[[], bool] = field(default=lambda: True)  # on this machine


def _is_bmp(start: bytes) -> bool:
    return start.startswith(b"BM") and int.from_bytes(start[14:18], "little") in BMP_HEADERS


def _is_webp(start: bytes) -> bool:
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


KINDS = (
    Kind(
        "PNG",
        {"png": (".png",)},
        "image/png",
        lambda start: start.startswith(PNG_SIGNATURE),
        headers.png_size,
        opened.png,
    ),
    Kind(
        "JPEG",
        {"jpg": (".jpg",), "jpeg": (".jpeg",)},
        "image/jpeg",
        lambda start: start.startswith(JPEG_SIGNATURE),
        headers.jpeg_size,
        opened.jpeg,
    ),
    Kind("WebP", {"webp": (".webp",)}, "image/webp", _is_webp, headers.webp_size, opened.webp),
    Kind("AVIF", {"avif": (".avif",)}, "image/avif", heif.is_avif, heif.avif_size, opened.avif),
    Kind(
        "GIF",
        {"gif": (".gif",)},
        "image/gif",
        lambda start: start.startswith((b"GIF87a", b"GIF89a")),
        headers.gif_size,
        opened.gif,
    ),
    Kind(
        "TIFF",
        {"tiff": (".tiff", ".tif")},
        "image/tiff",
        lambda start: start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        tiff_size,
        opened.tiff,
    ),
    Kind("BMP", {"bmp": (".bmp",)}, "image/bmp", _is_bmp, headers.bmp_size, opened.bmp),
    Kind(
        "HEIC",
        {"heic": (".heic", ".heif", ".hif")},
        "image/heic",
        heif.is_heic,
        heif.heif_size,
        opened.heic,
        opened.reads_heic,
    ),
)
FORMATS = {name: kind for kind in KINDS for name in kind.suffixes}  # by what the setting calls them


def check_formats(formats: Iterable[str]) -> None:
    """Check that this machine reads what is asked for by name; `all` is what it does read.

    Raises:
        InputError: it cannot read one of them.
    """
    if "heic" in formats:
        opened.check_reads_heic()


def suffixes(formats: Iterable[str]) -> tuple[str, ...]:
    """How the names of files in these formats end, in lowercase."""
    return tuple(ends for name in _named(formats) for ends in FORMATS[name].suffixes[name])


def kind_of(start: bytes, formats: Iterable[str]) -> Kind:
    """The format of a file that starts so, of those that are asked for; PNG and JPEG always are.

    Raises:
        UnreadableImage: it is in none of them.
    """
    for kind in _kinds(formats):
        if kind.is_it(start):
            return kind
    raise UnreadableImage(none_of(formats) if start else "empty file")


def none_of(formats: Iterable[str]) -> str:
    """The reason to skip a file that is in none of the formats."""
    names = [kind.name for kind in _kinds(formats)]
    return f"not a {', '.join(names[:-1])} or {names[-1]} file"


def kind_by_name(name: str) -> Kind | None:
    """The format that a file says by its name that it is in."""
    for kind in KINDS:
        for ends in kind.suffixes.values():
            if name.lower().endswith(ends):
                return kind
    return None


def others(formats: Iterable[str], found: Iterable[str]) -> str:
    """How files that are named by their suffixes in capitals, such as `HEIC`, would be pictures
    too; empty when none of them would be."""
    named = _named(formats)
    known = {suffix: name for name in FORMATS for suffix in FORMATS[name].suffixes[name]}
    more = {k: known[f".{k.lower()}"] for k in sorted(found) if f".{k.lower()}" in known}
    more = {kind: name for kind, name in more.items() if name not in named}
    if not more:
        return ""
    every = [*named, *(name for name in FORMATS if name in more.values())]
    wanted = ALL if len(every) == len(FORMATS) else ",".join(every)
    first = "heic" in more.values() and not opened.reads_heic()
    hint = f"--formats {wanted} captions {' and '.join(more)} too"
    return f"{hint}, after `pip install pillow-heif`" if first else hint


def _named(formats: Iterable[str]) -> tuple[str, ...]:
    """What is asked for, each once; all that this machine reads for `all`."""
    chosen = tuple(dict.fromkeys(formats))
    readable = (name for name in FORMATS if FORMATS[name].is_readable())
    return tuple(readable) if ALL in chosen else chosen


def _kinds(formats: Iterable[str]) -> list[Kind]:
    wanted = {FORMATS[name].name for name in (*DEFAULT, *_named(formats))}
    return [kind for kind in KINDS if kind.name in wanted]
