"""Formats besides PNG and JPEG: what a person sees is what the model gets, whoever decodes it."""

import io
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image, ImageCms
from pydantic import ValidationError

from captioner.asking.prompts import Prompts
from captioner.errors import UnreadableImage
from captioner.fields import FORMATS as NAMES
from captioner.fields import Format
from captioner.output.folder import OutputFolder
from captioner.output.planning import OTHER_FORMATS
from captioner.pictures.decoding import load_image
from captioner.pictures.kinds import FORMATS, others
from captioner.pictures.reading import validate
from captioner.pictures.scan import scan
from captioner.pictures.sizes import Measured, sizes
from captioner.plan import Plan
from captioner.records import Picture, Recipe, Skipped
from captioner.settings import Settings
from tests.checking import check_image
from tests.conftest import ROOT, draw_picture
from tests.test_images import SWAPPED, Pixels, composited, difference, gradient, grey

ALL = ("all",)
NEW = ("webp", "avif", "gif", "tiff", "bmp", "heic")
SIZE = (WIDTH, HEIGHT) = (96, 64)


def written(image: Image.Image, name: str, **options: Any) -> bytes:
    """The bytes of a picture in a format."""
    file = io.BytesIO()
    if name == "heic":
        from pillow_heif import from_pillow

        picture = from_pillow(image)
        picture.info.update(options)
        picture.save(file, quality=95)
    else:
        defaults: dict[str, dict[str, Any]] = {
            "webp": {"lossless": True},
            "avif": {"quality": 95, "speed": 8},
        }
        image.save(file, name, **defaults.get(name, {}) | options)
    return file.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def pixels(path: Path, **options: Any) -> Pixels:
    image = load_image(path, 0, formats=ALL, **options)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def sizes_of(*paths: Path) -> list[Measured]:
    return list(sizes([Picture(path.name, path.parent) for path in paths], ALL))


def ramp(channels: int) -> Pixels:
    """The gradient of test_images, large enough that every format has whole blocks of it."""
    small = Image.fromarray(gradient(channels).squeeze())
    return np.asarray(small.resize(SIZE, Image.Resampling.BILINEAR))


def reason(path: Path) -> str:
    with pytest.raises(UnreadableImage) as refused:
        check_image(path, ALL)
    return str(refused.value)


# --- the table ---


def test_the_setting_offers_what_is_in_the_table() -> None:
    assert set(NAMES) == set(FORMATS)
    assert get_args(Format) == (*NAMES, "all")
    with pytest.raises(ValidationError, match="one or more"):
        Settings(formats=())


@pytest.mark.parametrize(
    ("formats", "found"),
    [
        (("png",), ["a.png"]),
        (("jpg", "jpeg"), ["a.jpeg", "a.jpg"]),
        (("tiff", "heic"), ["a.HEIF", "a.heic", "a.hif", "a.tif", "a.TIFF"]),
        (ALL, None),
    ],
)
def test_files_are_chosen_by_their_suffixes(
    formats: tuple[str, ...], found: list[str] | None, tmp_path: Path
) -> None:
    endings = "png jpg jpeg webp avif gif tif TIFF bmp heic HEIF hif"
    names = [f"a.{suffix}" for suffix in endings.split()]
    for name in names:
        (tmp_path / name).touch()
    scanned = [picture.key for picture in scan(tmp_path, formats).pictures]
    assert sorted(scanned) == sorted(names if found is None else found)


def test_a_hint_says_the_whole_setting() -> None:
    assert others(("png", "jpg", "jpeg"), ["WEBP", "TXT"]) == (
        "--formats png,jpg,jpeg,webp captions WEBP too"
    )
    assert others(("heic",), ["TIF", "PNG"]) == "--formats heic,png,tiff captions PNG and TIF too"
    everything = [kind for kind in NAMES if kind != "bmp"]
    assert others(everything, ["BMP"]) == "--formats all captions BMP too"
    assert others(("png",), ["TXT", "special"]) == "" == others(ALL, ["BMP", "HEIC"])


# --- pixels, as another program decodes them ---


def by_opencv(path: Path) -> Pixels:
    import cv2

    found = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert found is not None
    return found[..., ::-1].astype(int)


def by_libheif(path: Path) -> Pixels:
    """As Debian's libheif decodes it, in a program of its own."""
    made = path.with_suffix(".png")
    if shutil.which("heif-convert") is None:
        pytest.skip("needs heif-convert (Debian's libheif-examples)")
    subprocess.run(["heif-convert", path, made], check=True, capture_output=True)
    return np.asarray(Image.open(made).convert("RGB")).astype(int)


DECODED: dict[str, tuple[dict[str, Any], int]] = {
    # how it is written, and by how much a sample may differ at most: chroma is not everywhere
    # brought to full size in the same way
    "webp": ({}, 0),
    "webp lossy": ({"lossless": False, "quality": 80}, 0),
    "avif": ({}, 3),
    "gif": ({}, 0),
    "tiff": ({}, 0),
    "tiff LZW": ({"compression": "tiff_lzw"}, 0),
    "tiff Deflate": ({"compression": "tiff_adobe_deflate"}, 0),
    "tiff JPEG": ({"compression": "jpeg", "quality": 90}, 4),
    "tiff big": ({"big_tiff": True}, 0),
    "bmp": ({}, 0),
    "heic": ({}, 4),
}


@pytest.mark.parametrize("kind", DECODED)
def test_pixels_are_those_of_another_decoder(kind: str, tmp_path: Path) -> None:
    options, most = DECODED[kind]
    name = kind.split()[0]
    with Image.open(ROOT / "input" / "diagram07.jpg") as whole:
        picture = whole.convert("RGB").resize((300, 200))
    path = put(tmp_path / f"a.{name}", written(picture, name, **options))
    other = by_libheif if name == "heic" else by_opencv
    found, expected = pixels(path), other(path)
    assert difference(found, expected) <= most
    assert np.abs(found - expected).mean() < 0.6
    assert check_image(path, ALL) == (300, 200)


# --- the honesty of PNG and JPEG ---


@pytest.mark.parametrize("name", NEW)
def test_sizes_are_known_without_decoding(name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, dict[str, Any]] = {
        "tiff": {"tiffinfo": {0x0112: 6}},
        "gif": {},
        "bmp": {},
        "heic": {"exif": exif.tobytes()},
    }
    for number, size in enumerate([(37, 20), (20, 37), (64, 64)]):
        image = Image.fromarray(ramp(3)).resize(size)
        data = written(image, name, **options.get(name, {"exif": exif}))
        put(tmp_path / f"{number}.{name}", data)
        put(tmp_path / f"plain{number}.{name}", written(image, name))
    paths = sorted(tmp_path.iterdir())
    assert sizes_of(*paths) == [check_image(path, ALL) for path in paths]
    assert sizes_of(*paths) == [load_image(path, 0, formats=ALL).size for path in paths]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["webp", "avif", "tiff", "heic"])
def test_every_orientation_is_turned_upright(name: str, turn: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    options: dict[str, Any] = {"exif": exif}
    if name == "tiff":
        options = {"tiffinfo": {0x0112: turn}}
    if name == "heic":
        options = {"exif": exif.tobytes()}
    stored = Image.fromarray(ramp(3))
    path = put(tmp_path / f"a.{name}", written(stored, name, **options))
    # what EXIF 2.32 says where row 0 and column 0 of the stored picture are
    turns: dict[int, Callable[[Pixels], Pixels]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        8: np.rot90,
    }
    assert difference(pixels(path), turns[turn](ramp(3))) <= (0 if name in ("webp", "tiff") else 9)


@pytest.mark.parametrize("name", ["webp", "avif", "tiff", "heic", "gif"])
def test_what_is_transparent_shows_the_background(name: str, tmp_path: Path) -> None:
    colours, alpha = ramp(3), ramp(1)
    if name == "gif":
        alpha = np.where(alpha < 128, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.dstack([colours, alpha]))
    path = put(tmp_path / f"a.{name}", written(image, name))
    found = pixels(path, background="#1e90ff")
    expected = composited(colours, alpha, (30, 144, 255))
    assert difference(found, expected) <= {"webp": 1, "tiff": 1, "gif": 40}.get(name, 12)
    assert np.abs(found - expected).mean() < (9 if name == "gif" else 3)


def test_bitmaps_are_opaque(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([ramp(3), ramp(1)]))
    assert difference(pixels(put(tmp_path / "a.bmp", written(image, "bmp"))), ramp(3)) == 0


@pytest.mark.parametrize("name", ["webp", "avif", "tiff", "heic"])
def test_a_colour_profile_is_converted_to_srgb(name: str, tmp_path: Path) -> None:
    data = written(Image.fromarray(ramp(3)), name, icc_profile=SWAPPED)
    found = pixels(put(tmp_path / f"a.{name}", data))
    expected = reference(ramp(3), SWAPPED)
    assert difference(found, expected) <= (0 if name in ("webp", "tiff") else 24)
    assert np.abs(found - expected).mean() < 3
    assert difference(expected, ramp(3)) > 60


def reference(samples: Pixels, profile: bytes) -> Pixels:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(Image.fromarray(samples), source, srgb)
    assert made is not None
    return np.asarray(made).astype(int)


@pytest.mark.parametrize("name", ["webp", "avif", "gif", "tiff"])
def test_the_first_frame_or_page(name: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("#204060", "red", "white")]
    data = written(frames[0], name, save_all=True, append_images=frames[1:])
    path = put(tmp_path / f"a.{name}", data)
    expected = np.broadcast_to((0x20, 0x40, 0x60), (HEIGHT, WIDTH, 3))
    assert difference(pixels(path), expected) <= (2 if name == "avif" else 0)


STEPS = np.tile(np.linspace(0, 1, WIDTH), (HEIGHT, 1))
WIDE: dict[str, Pixels] = {
    "16 bits": (STEPS * 65_535).astype(np.uint16),
    "32 bits": (STEPS * 3_000_000_000 - 1_500_000_000).astype(np.int32),
    "floats from 0 to 1": STEPS.astype(np.float32),
    "floats": (STEPS * 1_234.5 - 600).astype(np.float32),
    "huge floats": ((STEPS - 0.5) * 6e38).astype(np.float32),
}


@pytest.mark.parametrize("kind", WIDE)
@pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate"])
def test_a_gradient_of_many_bits_stays_a_gradient(
    kind: str, compression: str, tmp_path: Path
) -> None:
    data = written(Image.fromarray(WIDE[kind]), "tiff", compression=compression)
    assert difference(pixels(put(tmp_path / "a.tif", data)), grey(np.rint(STEPS * 255))) <= 1


def test_numbers_that_are_none_are_as_dark_as_the_darkest(tmp_path: Path) -> None:
    samples = WIDE["floats"].copy()
    samples[0, 0], samples[1, 1], samples[2, 2] = np.nan, np.inf, -np.inf
    found = pixels(put(tmp_path / "a.tif", written(Image.fromarray(samples), "tiff")))
    assert [int(found[n, n, 0]) for n in range(3)] == [0, 0, 0]
    assert found.max() == 255
    nothing = Image.fromarray(np.full((8, 8), np.nan, np.float32))
    assert pixels(put(tmp_path / "b.tif", written(nothing, "tiff"))).max() == 0


def tiff_of(samples: Pixels, photometric: int) -> bytes:
    """A TIFF of one strip of 8- or 16-bit greys, with its tags one by one."""
    bits = samples.itemsize * 8
    body = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    tags = {
        **{256: samples.shape[1], 257: samples.shape[0], 258: bits, 259: 1, 262: photometric},
        **{273: 8, 277: 1, 278: samples.shape[0], 279: len(body)},
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("white", [0, 1])
def test_white_may_be_zero(bits: int, white: int, tmp_path: Path) -> None:
    kind, top = (np.uint8, 255) if bits == 8 else (np.uint16, 65_535)
    path = put(tmp_path / "a.tif", tiff_of((STEPS * top).astype(kind), white))
    shown = STEPS if white else 1 - STEPS
    assert difference(pixels(path), grey(np.rint(shown * 255))) <= 1


# --- broken ones ---


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", NEW)
def test_truncated_files_are_skipped(name: str, part: float, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8))
    data = written(picture, name)
    path = put(tmp_path / f"a.{name}", data[: int(len(data) * part)])
    assert reason(path).startswith("damaged or unreadable")
    assert check_image(put(path, data), ALL) == (120, 90)


def huge(name: str) -> bytes:
    """The head of a file that says that it has 40,000 × 40,000 pixels or more."""
    side = 40_000
    if name == "webp":  # no more than 24 bits fit
        canvas = (side - 1).to_bytes(3, "little") * 2
        return b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + canvas + bytes(30)
    if name == "gif":
        frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0)
        return b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + frame + b"\x02\x00;"
    if name == "bmp":
        return b"BM" + bytes(12) + struct.pack("<IiiHHII", 40, side, -side, 1, 24, 0, 0) + bytes(30)
    small = written(Image.new("RGB", (63, 63)), name)
    old = struct.pack(">II", 64, 64) if name == "heic" else struct.pack(">II", 63, 63)
    if name == "tiff":
        return tiff_of(np.zeros((1, 1), np.uint8), 1).replace(
            struct.pack("<HHII", 256, 4, 1, 1) + struct.pack("<HHII", 257, 4, 1, 1),
            struct.pack("<HHII", 256, 4, 1, side) + struct.pack("<HHII", 257, 4, 1, side),
        )
    new = small.replace(b"ispe\0\0\0\0" + old, b"ispe\0\0\0\0" + struct.pack(">II", side, side))
    assert new != small
    return new.replace(b"clap", b"free")


@pytest.mark.parametrize("name", NEW)
def test_a_bomb_is_refused_by_its_head(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / f"a.{name}", huge(name))
    assert reason(path) == "more than 178,956,970 pixels"
    (found,) = sizes_of(path)
    assert str(found) == "more than 178,956,970 pixels"


@pytest.mark.parametrize("name", NEW)
def test_hardly_a_file_at_all(name: str, tmp_path: Path) -> None:
    data = written(Image.new("RGB", (40, 30)), name)
    for length in range(0, min(64, len(data) - 4), 3):
        path = put(tmp_path / f"a.{name}", data[:length])
        assert reason(path).isprintable()
        (found,) = sizes_of(path)
        assert length > 20 or isinstance(found, UnreadableImage)


def test_metadata_of_a_tiff_can_neither_hurt_nor_warn(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    data = bytearray(tiff_of((STEPS * 255).astype(np.uint8), 1))
    # an EXIF directory, a description and a resolution that lie beyond the end of the file
    start = int.from_bytes(data[4:8], "little")
    tags = [(270, 2, 900), (282, 5, 1), (34665, 4, 1), (700, 1, 1 << 30)]
    count = int.from_bytes(data[start : start + 2], "little")
    old = data[start + 2 : start + 2 + 12 * count]
    more = b"".join(struct.pack("<HHII", tag, kind, n, 1 << 29) for tag, kind, n in tags)
    data[start:] = struct.pack("<H", count + len(tags)) + old + more + bytes(4)
    path = put(tmp_path / "a.tif", bytes(data))
    assert difference(pixels(path), grey(np.rint(STEPS * 255))) <= 1
    assert not recwarn.list


def test_a_tiff_of_a_kind_that_nobody_here_decodes_says_of_which(tmp_path: Path) -> None:
    data = tiff_of((STEPS * 255).astype(np.uint8), 1)
    bits = struct.pack("<HHII", 258, 4, 1, 8), struct.pack("<HHII", 258, 4, 1, 24)
    path = put(tmp_path / "a.tif", data.replace(*bits))
    assert reason(path) == "a TIFF of a kind that is not read: 1 sample of 24 bits"


# --- names that say something else ---


def test_a_file_is_read_by_its_bytes_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = Image.new("RGB", SIZE, "#204060")
    put(tmp_path / "a\n.png", written(picture, "webp"))
    put(tmp_path / "b.webp", written(picture, "png"))
    put(tmp_path / "c.png", written(picture, "jpeg"))  # of which nobody ever took notice
    put(tmp_path / "d.heif", written(picture, "heic"))
    for path in sorted(tmp_path.iterdir()):
        assert check_image(path, ("png", "webp", "heic")) == SIZE
        load_image(path, 0, formats=("png", "webp", "heic"))
    assert [record.getMessage() for record in caplog.records] == [
        "a\\n.png is read as the WebP that it is, and not as PNG",
        "b.webp is read as the PNG that it is, and not as WebP",
    ]


def test_only_what_is_asked_for_is_decoded(tmp_path: Path) -> None:
    path = put(tmp_path / "a.png", written(Image.new("RGB", SIZE), "webp"))
    with pytest.raises(UnreadableImage, match=r"^not a PNG or JPEG file$"):
        check_image(path)
    with pytest.raises(UnreadableImage, match=r"^not a PNG, JPEG, GIF or TIFF file$"):
        load_image(path, 0, formats=("tiff", "gif"))


def test_what_was_in_no_format_is_looked_at_again_when_others_are_asked_for(
    folders: Settings,
) -> None:
    put(folders.input_dir / "a.png", written(Image.new("RGB", SIZE), "webp"))
    put(folders.input_dir / "b.png", b"nothing at all")

    def planned(*formats: str) -> Plan:
        settings = folders.model_copy(update={"formats": formats})
        found = scan(settings.input_dir, formats)
        plan = output.plan(found, settings, Recipe.of(settings, "abc"), Prompts(settings).of)
        for job in plan.todo:
            if isinstance(result := validate(job, formats), Skipped):
                output.skip(result)
        return plan

    with OutputFolder(folders.output_dir) as output:
        assert len(planned("png", "jpg", "jpeg").todo) == 2
        assert [len(planned("jpg", "png").todo), len(planned("png").skipped)] == [0, 2]
        again = planned("png", "webp").todo
        assert {job.reason for job in again} == {OTHER_FORMATS}
        assert [job.picture.key for job in again] == ["a.png", "b.png"]
        assert [s.picture.key for s in planned("png", "webp").skipped] == ["b.png"]


# --- HEIC, which not every machine reads ---

WITHOUT = "import sys; sys.modules['pillow_heif'] = None\n"


def plan_without_heic(folder: Path, formats: str) -> subprocess.CompletedProcess[str]:
    code = (
        WITHOUT + "from flows.hosting.terminal import main\n"
        f"sys.argv = ['x', '--plan', '--input-dir={folder}', '--output-dir={folder}/out', "
        f"'--model=models/flowcharts-3m-8bit', '--formats={formats}']\nmain()"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_where_nothing_reads_heic_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    draw_picture(tmp_path / "a.png")
    put(tmp_path / "b.heic", b"")
    put(tmp_path / "c.heic", b"")
    asked = plan_without_heic(tmp_path, "png,heic")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr.strip().endswith(
        "HEIC pictures cannot be read here: install what reads them with "
        "`pip install pillow-heif`, or leave heic out of --formats."
    )
    every = plan_without_heic(tmp_path, "all")
    assert every.returncode == 0
    said = " ".join(every.stdout.split())
    assert "Pictures 1 in" in said
    hint = "(--formats all captions HEIC too, after `pip install pillow-heif`)"
    assert f"Ignored 2 HEIC {hint}" in said


SIPS = """#!{python}
import sys
from pathlib import Path
from PIL import Image
from pillow_heif import open_heif
_, *options, picture, out, made = sys.argv
assert options == ["-s", "format", "tiff"] and out == "--out"
image = open_heif(picture).to_pillow().transpose(Image.Transpose.ROTATE_90)
image.save(made, tiffinfo={{274: 6}})  # turned once, and back by the tag
"""


def test_a_mac_reads_heic_through_its_own_sips(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    put(tools / "sips", SIPS.format(python=sys.executable).encode()).chmod(0o755)
    path = put(tmp_path / "a.heic", written(Image.fromarray(ramp(3)), "heic"))
    put(tmp_path / "cut.heic", path.read_bytes()[:-900])
    code = WITHOUT + (
        "from pathlib import Path\n"
        "from captioner.errors import UnreadableImage\n"
        "from captioner.pictures.decoding import load_image\n"
        "from tests.checking import check_image\n"
        f"print(check_image(Path({str(path)!r}), ('heic',)))\n"
        f"load_image(Path({str(path)!r}), 0, formats=('all',)).save({str(tmp_path / 'a.png')!r})\n"
        f"try: check_image(Path({str(tmp_path / 'cut.heic')!r}), ('heic',))\n"
        "except UnreadableImage as error: print(error)\n"
    )
    mac = os.environ | {
        "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "on_a_mac"), os.environ["PYTHONPATH"]]),
    }
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=mac, capture_output=True, text=True
    )
    assert run.stderr == ""
    assert run.stdout == f"{SIZE}\ndamaged or unreadable: sips cannot convert it\n"
    assert difference(np.asarray(Image.open(tmp_path / "a.png")), pixels(path)) == 0
