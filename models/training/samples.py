"""The sample pictures: held-out flowcharts in every kind of file that a folder may hold.

    python models/training/samples.py --out input

writes them. Knows nothing of checkpoints.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

import drawing
from flowcharts import Flowchart, plan, refuse_training_seed

SEED = 2026
ORIENTATION = 0x0112  # the EXIF tag
TURNED_LEFT = 6  # stored a quarter turn to the left, so a viewer turns it right


@dataclass(frozen=True, slots=True)
class Sample:
    """One file to write."""

    name: str
    layout: str
    count: int
    longest: int  # pixels, of the longer side
    wide: bool
    dark: bool
    kind: str = "plain"  # plain, transparent or rotated


SAMPLES = (
    Sample("diagram01.png", "left-to-right", 3, 800, wide=True, dark=False),
    Sample("diagram02.jpg", "top-to-bottom", 4, 900, wide=False, dark=False),
    Sample("diagram03.png", "left-to-right", 2, 640, wide=True, dark=True),
    Sample("diagram04.jpeg", "left-to-right", 5, 1200, wide=True, dark=False),
    Sample("diagram05.png", "top-to-bottom", 3, 720, wide=False, dark=False, kind="transparent"),
    Sample("diagram06.jpeg", "left-to-right", 4, 1024, wide=True, dark=False, kind="rotated"),
    Sample("diagram07.jpg", "top-to-bottom", 5, 600, wide=False, dark=True),
    Sample("diagram08.png", "top-to-bottom", 2, 384, wide=False, dark=False),
)
BROKEN = "broken.png"


def _suits(sample: Sample, chart: Flowchart) -> bool:
    """Whether a planned flowchart is of the kind that the sample shows."""
    longer = max(chart.width, chart.height)
    return (
        chart.layout == sample.layout
        and len(chart.nodes) == sample.count
        and 0.85 * sample.longest <= longer <= 1.15 * sample.longest
        and (chart.width > 1.15 * chart.height) == sample.wide
        and (sum(chart.look.background) < 300) == sample.dark
        and (sample.kind != "transparent" or not chart.look.hollow)
    )


def find(sample: Sample, seed: int, start: int) -> tuple[Flowchart, int]:
    """The first fitting flowchart from ``start`` on, and its index."""
    index = start
    while not _suits(sample, chart := plan(seed, index)):
        index += 1
    smooth = replace(chart.look, smooth=True, jpeg=92 if "jp" in sample.name else 0)
    return replace(chart, look=smooth), index


def _plain(chart: Flowchart, index: int, seed: int) -> bytes:
    return drawing.encode(chart, drawing.draw(chart, seed, index))


def _transparent(chart: Flowchart, index: int, seed: int) -> bytes:
    buffer = io.BytesIO()
    drawing.paint(chart, transparent=True).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _rotated(chart: Flowchart, index: int, seed: int) -> bytes:
    image = drawing.draw(chart, seed, index).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED_LEFT
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=chart.look.jpeg, exif=exif)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Flowchart, int, int], bytes]] = {
    "plain": _plain,
    "transparent": _transparent,
    "rotated": _rotated,
}


def write_samples(folder: Path, seed: int = SEED) -> list[str]:
    """Write all samples and the broken one; one line a file says what it shows."""
    refuse_training_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines, index = [], -1
    for sample in SAMPLES:
        chart, index = find(sample, seed, index + 1)
        (folder / sample.name).write_bytes(WRITERS[sample.kind](chart, index, seed))
        lines.append(f"{sample.name}  {chart.width}x{chart.height}  {chart.caption}")
    whole = (folder / SAMPLES[0].name).read_bytes()
    (folder / BROKEN).write_bytes(whole[: len(whole) // 2])
    lines.append(f"{BROKEN}  the first half of {SAMPLES[0].name}")
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the sample pictures.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write them to")
    options = parser.parse_args()
    for line in write_samples(options.out):
        print(line)


if __name__ == "__main__":
    main()
