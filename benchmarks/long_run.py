"""Does the flow's memory grow? Its resident size while thousands of captions land.

    python -m benchmarks.long_run [--pictures N] [--batch-size N]

The embedded checkpoint, small pictures of several sizes, two tokens each: what is left is what the
flow itself keeps. Prints the resident size as it goes, and what picture 2,000 has more than 200.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import ours, pictures
from benchmarks.checkpoint import EMBEDDED
from benchmarks.environment import this_machine
from benchmarks.processes import end_tidily, resident_bytes

TOKENS = 2
SAMPLED_EVERY = 100
FROM, TO = 200, 2_000
SAVED = b"Saved caption"
MB = 1e6


def main() -> None:
    """Run the flow, sample, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=2_050, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args()
    end_tidily()
    print(f"Machine: {this_machine().described()}")
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "in"
        _draw(folder, options.pictures)
        with ours.prefect_server(Path(scratch) / "prefect-home") as server:
            samples = _samples(server, folder, Path(scratch) / "out", options.batch_size)
    for picture, size in samples.items():
        print(f"picture {picture:5d}: {size / MB:7.1f} MB")
    if FROM in samples and TO in samples:
        print(f"Growth from picture {FROM} to {TO}: {(samples[TO] - samples[FROM]) / MB:+.1f} MB")


def _draw(folder: Path, number: int) -> None:
    """Twelve pictures of different sizes, over and over, as links."""
    models = pictures.draw_mixed(folder.parent / "models", len(pictures.SIZES))
    folder.mkdir()
    for n in range(number):
        source = models[n % len(models)]
        os.link(source, folder / f"picture-{n:05d}{source.suffix}")


def _samples(server: ours.Server, folder: Path, output: Path, batch_size: int) -> dict[int, int]:
    """The resident bytes of the flow's process after every hundredth caption."""
    samples: dict[int, int] = {}
    saved, began = 0, time.monotonic()
    command = ours.command(EMBEDDED, folder, TOKENS, output, batch_size)
    with ours.started(server, command, threads=1) as process:
        for line in process.stdout or ():
            if SAVED not in line:
                continue
            saved += 1
            if saved % SAMPLED_EVERY == 0:
                samples[saved] = resident_bytes(process.pid)
                took = time.monotonic() - began
                print(f"{saved} captions in {took:.0f} s", file=sys.stderr, flush=True)
    return samples


if __name__ == "__main__":
    main()
