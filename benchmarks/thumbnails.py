"""What a thumbnail costs beyond the decoding that the device needs anyway.

    python -m benchmarks.thumbnails

A photo-like picture of two megapixels, as large as the default lets one be: the CPU of making its
JPEG, and of writing it beside the gallery.
"""

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


def main() -> None:
    """Measure, print."""
    print(f"Machine: {this_machine().described()}")
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        path = pictures.draw_mixed(Path(scratch), 8, large=True)[-1]
        for size in (2_097_152, 262_144):
            image = load_image(path, size)
            data, thumbnails = thumbnail_of(image), Thumbnails(Path(scratch))
            print(f"{image.width} × {image.height} pixels, a thumbnail of {len(data):,} bytes")
            print(f"  made in {milliseconds(lambda _, image=image: thumbnail_of(image))}")
            stamps = [Stamp(1, 1, f"{n:064x}") for n in range(ROUNDS)]
            add = thumbnails.add
            written = milliseconds(lambda n, data=data: add(stamps[n], data))  # type: ignore[misc]
            print(f"  written in {written}")


if __name__ == "__main__":
    main()
