"""Mutated picture files of every format, made from a seed. Knows nothing of what reads them."""

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from captioner.pictures.formats import JPEG_SIGNATURE, PNG_SIGNATURE
from captioner.pictures.kinds import START, kind_of

Parts = list[tuple[bytes, bytes]]  # a chunk's or a segment's kind, and its content


# --- whole files of many kinds ---


def noise(mode: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Soft noise in any of Pillow's modes."""
    bands = len(Image.new(mode, (1, 1)).getbands()) if mode not in ("1", "I;16") else 1
    values = np.random.default_rng(2).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    if mode in ("1", "P"):
        return Image.fromarray(values[..., 0]).convert(mode)
    channels = [Image.fromarray(values[..., band]) for band in range(bands)]
    return Image.merge(mode, channels) if bands > 1 else channels[0]


def saved(image: Image.Image, **options: Any) -> bytes:
    """The bytes of the picture's file."""
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def interlaced() -> bytes:
    """A grey PNG of 8×8 pixels in Adam7's seven passes; Pillow writes none."""
    sizes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    rows = b"".join((b"\0" + bytes(range(width))) * height for width, height in sizes)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return joined(True, parts)


def whole_files() -> list[bytes]:
    """PNG and JPEG, plain and with all that a file may carry."""
    info = PngImagePlugin.PngInfo()
    info.add_text("key", "value " * 50, zip=True)
    info.add_itxt("title", "naïve", lang="en")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    extras: dict[str, Any] = {"exif": exif, "icc_profile": icc}
    png: dict[str, Any] = {"format": "PNG"}
    jpeg: dict[str, Any] = {"format": "JPEG", "quality": 90}
    return [
        *(saved(noise(mode), **png) for mode in ("1", "L", "LA", "RGB", "RGBA", "P", "I;16")),
        saved(noise("RGB"), **png, **extras, pnginfo=info, dpi=(72, 72)),
        saved(noise("P"), **png, **extras, transparency=bytes(range(0, 250, 5))),
        saved(noise("L"), **png, transparency=7),
        saved(noise("RGB"), **png, save_all=True, append_images=[noise("RGB"), noise("RGB")]),
        saved(noise("RGB", (300, 200)), **png),  # more than one IDAT chunk
        interlaced(),
        *(saved(noise(mode), **jpeg) for mode in ("L", "RGB", "CMYK")),
        saved(noise("RGB"), **jpeg, **extras, comment=b"a comment"),
        saved(noise("RGB"), **jpeg, **extras, progressive=True),
        saved(noise("CMYK"), **jpeg, progressive=True),
        saved(noise("RGB", (300, 200)), **jpeg, subsampling=2, restart_marker_rows=1),
        saved(noise("RGB"), format="MPO", save_all=True, append_images=[noise("RGB")]),
    ]


def other_files() -> list[bytes]:
    """The formats besides PNG and JPEG, plain and with all that a file may carry."""
    from pillow_heif import from_pillow

    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    extras: dict[str, Any] = {"exif": exif, "icc_profile": icc}
    more: dict[str, Any] = {"save_all": True, "append_images": [noise("RGB"), noise("RGB")]}
    wide = Image.fromarray(np.linspace(-3, 900, 1200, dtype=np.float32).reshape(30, 40))
    files = [
        saved(noise("RGB"), format="WEBP", quality=80),
        saved(noise("RGBA"), format="WEBP", lossless=True, **extras),
        saved(noise("RGB"), format="WEBP", **more),
        saved(noise("RGB"), format="AVIF", speed=10),
        saved(noise("RGBA"), format="AVIF", speed=10, **extras),
        saved(noise("RGB"), format="AVIF", speed=10, **more),
        *(saved(noise(mode), format="GIF") for mode in ("L", "P")),
        saved(noise("P"), format="GIF", transparency=3, comment=b"a comment", **more),
        *(saved(noise(mode), format="TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK")),
        *(saved(image, format="TIFF") for image in (noise("I;16"), wide)),
        saved(noise("RGB"), format="TIFF", tiffinfo={274: 6}, icc_profile=icc),
        *(
            saved(noise("RGB"), format="TIFF", compression=kind)
            for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "zstd")
        ),
        saved(noise("1"), format="TIFF", compression="group4"),
        saved(noise("RGB"), format="TIFF", big_tiff=True, **more),
        *(saved(noise(mode), format="BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
    ]
    for mode in ("RGB", "RGBA"):
        file, picture = io.BytesIO(), from_pillow(noise(mode))
        picture.info["exif"] = exif.tobytes()
        picture.save(file, quality=60)
        files.append(file.getvalue())
    return files


# --- what is done to them ---


def split(data: bytes) -> Parts:
    """The chunks of a whole PNG, the segments of a whole JPEG; all from SOS on is one."""
    parts = []
    if data.startswith(PNG_SIGNATURE):
        position = len(PNG_SIGNATURE)
        while position < len(data):
            length, kind = struct.unpack_from(">I4s", data, position)
            parts.append((kind, data[position + 8 : position + 8 + length]))
            position += length + 12
        return parts
    position = 2
    while data[position + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, position + 2)
        parts.append((data[position : position + 2], data[position + 4 : position + 2 + length]))
        position += 2 + length
    return [*parts, (b"\xff\xda", data[position + 4 :])]


def joined(is_png: bool, parts: Parts) -> bytes:
    """The file of these parts, with lengths and checksums that are right."""
    if is_png:
        chunks = (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in parts
        )
        return PNG_SIGNATURE + b"".join(chunks)
    # SOS is followed by the data, which its length does not count
    lengths = [
        data[0] * 2 + 6 if kind == b"\xff\xda" and data else len(data) + 2 for kind, data in parts
    ]
    segments = (
        kind + struct.pack(">H", length & 0xFFFF) + content
        for (kind, content), length in zip(parts, lengths, strict=True)
    )
    return b"\xff\xd8" + b"".join(segments)


def with_bits_flipped(data: bytes, numbers: random.Random) -> bytes:
    """Some bits of it, most of them near its beginning, where the headers are."""
    changed = bytearray(data)
    for _ in range(numbers.choice([1, 1, 3, 20]) if data else 0):
        reach = min(len(changed), numbers.choice([16, 1_200, len(changed)]))
        changed[numbers.randrange(reach)] ^= 1 << numbers.randrange(8)
    return bytes(changed)


def truncated(data: bytes, numbers: random.Random) -> bytes:
    """Up to a byte anywhere."""
    return data[: numbers.randrange(len(data) + 1)]


def spliced(data: bytes, other: bytes, numbers: random.Random) -> bytes:
    """With a piece of another file in it, in place of as much or in between."""
    start, size = numbers.randrange(len(data) + 1), numbers.randrange(1, 400)
    begin = numbers.randrange(len(other))
    end = start + numbers.choice([0, size])
    return data[:start] + other[begin : begin + size] + data[end:]


def absurd_number(content: bytes, numbers: random.Random) -> bytes:
    """With a number of two or four bytes that nobody expects."""
    value = numbers.choice(
        [b"\0\0", b"\xff\xff", b"\0\1", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\x75\x30"]
    )
    start = numbers.randrange(min(len(content), numbers.choice([9, 600])) + 1)
    return content[:start] + value + content[start + len(value) :]


def recompressed(content: bytes, numbers: random.Random) -> bytes:
    """A PNG's rows or colour profile with changes in them, in a stream that is sound."""
    name = content[: content.index(b"\0") + 2] if content.startswith(b"ICC Profile\0") else b""
    try:
        inside = zlib.decompress(content[len(name) :])
    except zlib.error:  # one of several chunks
        return with_bits_flipped(content, numbers)
    change = numbers.choice([with_bits_flipped, truncated, absurd_number])
    return name + zlib.compress(change(inside, numbers) * numbers.choice([1, 1, 1, 50]))


def rearranged(parts: Parts, others: Parts, numbers: random.Random) -> Parts:
    """One part removed, repeated, moved, changed, or taken from another file."""
    place, change = numbers.randrange(len(parts)), numbers.randrange(6)
    before, part, after = parts[:place], parts[place], parts[place + 1 :]
    kind, content = part
    if change == 0:
        return [*before, *after] or parts
    if change == 1:
        times = numbers.choice([2, 2, 40, 3_000])
        return [*before, *[part] * (times if len(content) < 1_000 else 2), *after]
    if change == 2:
        rest = [*before, *after]
        to = numbers.randrange(len(parts))
        return [*rest[:to], part, *rest[to:]]
    if change == 3:
        return [*before, numbers.choice(others), part, *after]
    changes = [with_bits_flipped, truncated, absurd_number]
    if kind in (b"IDAT", b"iCCP"):
        changes += [recompressed, recompressed]
    return [*before, (kind, numbers.choice(changes)(content, numbers)), *after]


def changed(data: bytes, other: bytes, numbers: random.Random) -> bytes:
    """A file that is not taken apart, changed in one to four places, mostly behind its first bytes,
    by which its format is known."""
    known = numbers.choice([0, 12, 12, 12, 12])
    start, data, other = data[:known], data[known:], other[known:]
    for _ in range(numbers.choice([1, 1, 2, 4])):
        match numbers.randrange(6):
            case 0 | 1:
                data = with_bits_flipped(data, numbers)
            case 2:
                data = truncated(data, numbers)
            case 3:
                data = spliced(data, other, numbers)
            case _:
                data = absurd_number(data, numbers)
    return start + data


def suffix_of(data: bytes) -> str:
    """A suffix of the format that the file is in."""
    kind = kind_of(data[:START], ("all",))
    return next(iter(kind.suffixes.values()))[0]


def mutant(sources: list[bytes], seed: int, index: int) -> tuple[str, bytes]:
    """The name and the content of the mutated file `index` of a seed."""
    numbers = random.Random(f"{seed} {index}")
    data, other = numbers.choice(sources), numbers.choice(sources)
    is_png = data.startswith(PNG_SIGNATURE)
    if not is_png and not data.startswith(JPEG_SIGNATURE):
        return f"{seed}-{index}{suffix_of(data)}", changed(data, other, numbers)
    if numbers.random() < 0.6:
        parts = split(data)
        is_alike = other.startswith(PNG_SIGNATURE if is_png else JPEG_SIGNATURE)
        others = split(other) if is_alike else parts
        for _ in range(numbers.choice([1, 1, 2, 4])):
            parts = rearranged(parts, others, numbers)
        data = joined(is_png, parts)
    match numbers.randrange(6):
        case 0:
            data = with_bits_flipped(data, numbers)
        case 1:
            data = truncated(data, numbers)
        case 2:
            data = spliced(data, other, numbers)
    return f"{seed}-{index}.{'png' if is_png else numbers.choice(['jpg', 'jpeg'])}", data
