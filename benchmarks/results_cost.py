"""What gallery, thumbnails and all exports cost: the CPU of the whole command with and without.

    python -m benchmarks.results_cost [--pictures 2000] [--pairs 2] [--tokens 32]

The embedded checkpoint over 32 mixed pictures under so many names, one Prefect server for all runs,
with and without in turn. Seconds are user and system time of the command's process, with all of its
threads: that of the server is not counted, and so others on the machine matter little.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks import ours, pictures
from benchmarks.checkpoint import EMBEDDED
from benchmarks.environment import ROOT, this_machine
from benchmarks.processes import end_tidily

WITH = ("--export", "txt,jsonl,csv,parquet,xmp,html", "--include-flagged")
WITHOUT = ("--no-gallery",)
DISTINCT = 32  # with bytes of their own, and so with a thumbnail of their own


def draw(folder: Path, number: int) -> None:
    """So many names of mixed pictures."""
    drawn = pictures.draw_mixed(folder.parent / "drawn", DISTINCT)
    folder.mkdir()
    for n in range(number):
        source = drawn[n % DISTINCT]
        os.link(source, folder / f"picture-{n:05d}{source.suffix}")


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """User and system time of a command that ends well."""
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"the flow failed:\n{said.decode()[-3000:]}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the pairs, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=2_000, help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=8, help="default: %(default)s")
    options = parser.parse_args()
    end_tidily()
    print(f"Machine: {this_machine().described()}")
    ratios = []
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        draw(Path(scratch) / "in", options.pictures)
        with ours.prefect_server(Path(scratch) / "prefect-home") as server:
            for pair in range(options.pairs):
                seconds = {}
                for flags in (WITH, WITHOUT) if pair % 2 else (WITHOUT, WITH):
                    output = Path(scratch) / f"out-{pair}-{len(flags)}"
                    command = ours.command(
                        EMBEDDED, Path(scratch) / "in", options.tokens, output, options.batch_size
                    )
                    seconds[flags] = cpu_seconds([*command, *flags], ours.environment(server, 1))
                ratios.append(seconds[WITH] / seconds[WITHOUT])
                print(
                    f"{options.pictures} pictures: {seconds[WITH]:.1f} s with, "
                    f"{seconds[WITHOUT]:.1f} s without: {100 * (ratios[-1] - 1):+.1f} %",
                    flush=True,
                )
    print(f"median of the pairs: {100 * (statistics.median(ratios) - 1):+.1f} %")


if __name__ == "__main__":
    main()
