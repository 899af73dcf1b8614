"""The same as the reference: pixels, prompt, logits and captions of transformers and of ours.

Both sides get the same `load_image` output, so what we do to a picture on purpose (pixel cap,
white behind what is see-through, upright, sRGB) is done for both. See `oracle.py`. The figures
that are asserted are also printed: `pytest tests/test_reference.py -s`.
"""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from captioner.asking.prompts import Prompts
from captioner.device.device import Device
from captioner.device.encoding import Prepared, as_mlx
from captioner.device.model import MlxModel
from captioner.device.rows import Request, Row
from captioner.pictures.decoding import load_image
from captioner.records import Picture
from captioner.settings import DEFAULTS, Settings
from tests.conftest import CHECKPOINT, ROOT, draw_picture
from tests.float32 import dequantise
from tests.test_asking import HOSTILE

if TYPE_CHECKING:  # importing torch takes longer than all of `make quick` may wait for
    from tests.oracle import Inputs, Oracle

pytestmark = pytest.mark.model

LONGEST = 64  # tokens; a caption of five nodes has 51
GREEDY = Request("Describe the contents of this image.", None, LONGEST, 0.0)
MAX_PIXELS = DEFAULTS.max_pixels
PAIRS_OF_PROMPTS = [
    ("Describe the contents of this image.", None),
    ("Describe the contents of this image.", "You are a helpful assistant."),
    ("What is in this picture?\n  List it:\n\n- naïve 図 🙂 {{x}}", "Reply in plain\nEnglish. "),
    (" ", "<b>42</b>"),
]

# A step of a pixel's 256 is 2/255 here; both sides resize whole pixels with Pillow, so what may
# differ is the rounding of the two float32 operations that scale them to -1..1.
PIXELS_BOUND = 1e-6
# Logits reach 26; float32 sums over 10 layers in another order. Measured: 0.000015.
LOGITS_BOUND = 5e-5
# mlx-vlm 0.7.10 approximates the GELU of Qwen3-VL-MoE's mergers with tanh, which is off by up to
# 0.0005 in each of their 512 numbers, where transformers takes the exact one. Measured: 0.0005,
# and the closest decision between two tokens of these captions is twenty times that.
GELU_BOUND = 2e-3

# Pictures of the training's generator whose lettering is Pillow's own face, so that it can draw
# them on any machine; run in its folder, since its modules import one another by bare names.
DRAW = """
import itertools, pathlib, sys
import drawing, flowcharts, fonts
folder, seed, left = pathlib.Path(sys.argv[1]), 4711, int(sys.argv[2])
for index in itertools.count():
    if not left:
        break
    try:
        chart = flowcharts.plan(seed, index)
    except FileNotFoundError:  # a font package that is not installed
        continue
    if fonts.FACES[chart.look.face][0] != "pillow":
        continue
    name = f"generated-{left}." + ("jpg" if chart.look.jpeg else "png")
    image = drawing.draw(chart, seed, index)
    (folder / name).write_bytes(drawing.encode(chart, image))
    left -= 1
"""
GENERATED = 3


def noise(width: int, height: int, seed: int) -> Image.Image:
    """Something like a photo: soft gradients, an edge and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(20, 90) + y / rng.uniform(20, 90)) for _ in range(3)]
    picture = 120 + 70 * np.stack(waves, axis=-1) + rng.normal(0, 12, (height, width, 3))
    picture[y > height * 0.6 + x * 0.1] *= 0.5
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def see_through(mode: str) -> Image.Image:
    """A box with a word on nothing, half of it see-through."""
    image = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((30, 40, 150, 160), fill=(20, 90, 210, 255))
    draw.rectangle((150, 40, 270, 160), fill=(20, 90, 210, 110))
    draw.text((60, 90), "START", fill=(0, 0, 0, 255))
    return image.convert(mode)


def turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(draw_picture(path.with_suffix(".png"), "DONE", (400, 170)))
    image.save(path, exif=exif)
    path.with_suffix(".png").unlink()


def draw_all(folder: Path) -> None:
    """Pictures of every kind that a folder may hold."""
    grey = noise(333, 251, 3).convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 257
    noise(640, 480, 1).save(folder / "photo.jpg", quality=88)
    noise(1201, 903, 2).save(folder / "photo-large.jpg", progressive=True)
    noise(97, 61, 4).save(folder / "photo-small.png")
    noise(2400, 1600, 5).save(folder / "photo-over-the-cap.jpg", quality=70)
    grey.save(folder / "grey.png")
    Image.fromarray(deep).save(folder / "grey-16-bits.png")
    grey.convert("1").save(folder / "black-and-white.png")
    noise(200, 300, 7).convert("CMYK").save(folder / "cmyk.jpg")
    see_through("RGBA").save(folder / "see-through.png")
    see_through("LA").save(folder / "see-through-grey.png")
    see_through("RGBA").quantize(32).save(folder / "see-through-palette.png")
    for orientation in (5, 6):
        turned(folder / f"turned-{orientation}.jpg", orientation)
    noise(60, 1900, 9).save(folder / "tall.png")
    noise(1900, 60, 10).save(folder / "wide.png")
    draw_picture(folder / "tall-box.png", "SAVE", (110, 700))
    draw_picture(folder / "wide-box.jpg", "LOAD", (900, 100))
    Image.new("RGB", (1000, 6), "green").save(folder / "line.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (240, 320), "black").save(folder / "black.png")


@dataclass(frozen=True, slots=True)
class Case:
    """One picture on both sides."""

    name: str
    image: Image.Image
    ours: Prepared
    theirs: "Inputs"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dequantise(CHECKPOINT, tmp_path_factory.mktemp("reference") / "float32")


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> MlxModel:
    return MlxModel(checkpoint)


@pytest.fixture(scope="module")
def oracle(checkpoint: Path) -> "Oracle":
    from tests.oracle import Oracle

    return Oracle(checkpoint)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    draw_all(folder)
    training = ROOT / "models" / "training"
    command = [sys.executable, "-c", DRAW, str(folder), str(GENERATED)]
    subprocess.run(command, cwd=training, check=True)
    made = [*folder.iterdir(), *(ROOT / "input").glob("diagram0[1-4]*")]
    # kinds and sizes mixed, in an order that is the same everywhere
    return sorted(made, key=lambda path: (sum(path.name.encode()) % 7, path.name))


@pytest.fixture(scope="module")
def cases(paths: list[Path], model: MlxModel, oracle: "Oracle") -> list[Case]:
    def one(path: Path) -> Case:
        image = load_image(path, MAX_PIXELS)
        theirs = oracle.inputs(image, GREEDY.user_prompt)
        return Case(path.name, image, model.prepare(image, GREEDY), theirs)

    return [one(path) for path in paths]


@pytest.fixture(scope="module")
def reference(cases: list[Case], oracle: "Oracle") -> dict[str, list[int]]:
    """The reference's captions, as tokens, by the name of the picture."""
    captions, margins = {}, {}
    for case in cases:
        captions[case.name], margins[case.name] = oracle.caption(case.theirs, LONGEST)
    closest = min(margins, key=lambda name: margins[name])
    print(f"\nclosest decision between two tokens: {margins[closest]:.4f} in {closest}")
    return captions


def generated(model: MlxModel, cases: list[Case], together: int) -> dict[str, list[int]]:
    """Our captions as tokens, by name; a row joins as soon as another leaves, as on the device."""
    rows, waiting = model.rows(together), list(cases)
    running: dict[Row, str] = {}
    done = {}
    while waiting or running:
        while waiting and len(rows) < together:
            case = waiting.pop(0)
            row = Row(case.ours, GREEDY)
            rows.add(row, model.encode(row.prepared))
            running[row] = case.name
        for row in rows.step():
            done[running.pop(row)] = row.tokens
    return done


def test_pixels_and_grid_are_the_same(cases: list[Case]) -> None:
    assert len(cases) == 27
    assert len({case.image.size for case in cases}) > 20
    differences = {}
    for case in cases:
        ours = case.ours.arrays
        assert ours["image_grid_thw"].tolist() == case.theirs.grid.tolist(), case.name
        assert ours["pixel_values"].shape == case.theirs.pixels.shape, case.name
        differences[case.name] = float(abs(ours["pixel_values"] - case.theirs.pixels).max())
    grids = {tuple(case.theirs.grid[0]) for case in cases}
    largest = max(differences.values())
    print(f"\n{len(cases)} pictures, {len(grids)} grids; pixels differ by {largest:.2g} at most")
    assert largest <= PIXELS_BOUND


@pytest.mark.parametrize(("user", "system"), PAIRS_OF_PROMPTS)
def test_prompt_tokens_are_the_same(
    cases: list[Case], model: MlxModel, oracle: "Oracle", user: str, system: str | None
) -> None:
    for case in cases[::6]:
        ours = model.prepare(case.image, Request(user, system, LONGEST, 0.0))
        theirs = oracle.inputs(case.image, user, system)
        assert ours.arrays["input_ids"].tolist() == [theirs.ids.tolist()], case.name
        assert ours.arrays["attention_mask"].all()
        assert ours.image_tokens == theirs.grid.prod() // 4


@pytest.mark.parametrize("name", HOSTILE)
def test_no_file_name_ends_the_user_s_turn(model: MlxModel, name: str) -> None:
    """By what the tokenizer makes of the whole prompt: its added tokens, in their order."""
    added = set(model._tokenizer.get_added_vocab().values())
    image = Image.new("RGB", (64, 64))

    def tokens(prompt: str) -> list[int]:
        prepared = model.prepare(image, Request(prompt, None, 1, 0.0))
        return [int(token) for token in prepared.arrays["input_ids"][0] if token in added]

    def asked(key: str) -> str:
        return Prompts(Settings(user_prompt="What is {name}?")).of(Picture(key, Path())).user_prompt

    honest = tokens(asked("a.png"))
    assert len(honest) > 8
    assert tokens(asked(name)) == honest
    if "<|im_end|>" in name and len(name) < 255:  # as it would be with the name as it is
        assert tokens(f"What is {name}?") != honest


def test_first_logits_are_the_same(cases: list[Case], model: MlxModel, oracle: "Oracle") -> None:
    as_it_is, as_ours = [], []
    network: Any = model._model
    for case in cases[::3]:
        ids, pixels, mask, rest = as_mlx(case.ours)
        logits = np.array(network(ids, pixels, mask, **rest).logits[0, -1])
        as_it_is.append(float(abs(logits - oracle.first_logits(case.theirs)).max()))
        as_ours.append(float(abs(logits - oracle.first_logits(case.theirs, "tanh")).max()))
    print(
        f"\nlogits differ by {max(as_it_is):.2g} at most, {max(as_ours):.2g} with tanh in mergers"
    )
    assert max(as_ours) <= LOGITS_BOUND
    # when this fails because mlx-vlm has become exact: drop first_logits' second argument
    assert max(as_ours) < max(as_it_is) <= GELU_BOUND


@pytest.mark.parametrize(
    ("together", "taken"),
    # a pass over all of them takes as long as all else here: each picture is in one of the three
    [(1, slice(0, None, 3)), (3, slice(1, None, 3)), (8, slice(2, None, 3))],
    ids=["alone", "batches-of-3", "batches-of-8"],
)
def test_captions_are_the_same_token_for_token(
    cases: list[Case], model: MlxModel, reference: dict[str, list[int]], together: int, taken: slice
) -> None:
    some = cases[taken]
    captions = generated(model, some, together)
    assert captions == {case.name: reference[case.name] for case in some}


def test_how_many_captions_differ_at_8_bits(
    paths: list[Path], oracle: "Oracle", reference: dict[str, list[int]]
) -> None:
    """Through the device, as a run does it, with the weights that are shipped.

    The reference has these very weights, dequantised: this is what computing with them costs.
    What was lost when they were quantised is in the model card (`models/training/agreement.py`).
    """
    paths = paths[::3]
    with Device(CHECKPOINT) as device:
        readers = [partial(load_image, path, MAX_PIXELS) for path in paths]
        works = [device.begin(reader, GREEDY) for reader in readers]
        texts = [work.result().text for work in works]
    differing = [
        path.name
        for path, text in zip(paths, texts, strict=True)
        if text != oracle.text(reference[path.name])
    ]
    print(f"\n8 bits: {len(differing)} of {len(paths)} captions differ: {differing}")
    assert not differing
