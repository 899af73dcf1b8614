"""What a thumbnail costs beyond the decoding that the device needs anyway.

    python -m benchmarks.thumbnails

A photo-like picture of two megapixels, as large as the default lets one be: the CPU of making its
JPEG, and of writing it beside the gallery.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import pictures
from benchmarks.environment import this_machine
from captioner.output.thumbnails import Thumbnails
from captioner.pictures.decoding import load_image
from captioner.pictures.thumbnail import thumbnail_of
from captioner.records import Stamp
from captioner.settings import DEFAULTS

ROUNDS = 100


def milliseconds(work: Callable[[int], object]) -> str:
    """The median and the 95th percentile of the CPU of one piece of work."""
    times = []
    for n in range(ROUNDS):
        began = time.process_time()
        work(n)
        times.append(1000 * (time.process_time() - began))
    times.sort()
    return f"{statistics.median(times):.2f} ms, 95 % within {times[95 * ROUNDS // 100]:.2f} ms"


def measure(path: Path, most: int) -> None:
    """Print what the thumbnail of a picture costs that is read at so many pixels."""
    image = load_image(path, most)
    data, thumbnails = thumbnail_of(image), Thumbnails(path.parent)
    stamps = [Stamp(1, 1, f"{n:064x}") for n in range(ROUNDS)]
    print(f"{image.width} × {image.height} pixels, a thumbnail of {len(data):,} bytes")
    print(f"  made in {milliseconds(lambda _: thumbnail_of(image))}")
    print(f"  written in {milliseconds(lambda n: thumbnails.add(stamps[n], data))}")


def main() -> None:
    """Measure, print."""
    print(f"Machine: {this_machine().described()}")
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        drawn = pictures.draw_mixed(Path(scratch), 8, large=True)
        largest = max(drawn, key=lambda path: math.prod(load_image(path, 0).size))
        for most in (DEFAULTS.max_pixels, DEFAULTS.max_pixels // 8):
            measure(largest, most)


if __name__ == "__main__":
    main()
