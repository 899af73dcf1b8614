"""This flow against the other ways to caption a folder with mlx-vlm, in one run.

    python -m benchmarks.throughput [--pictures N] [--tokens N] [--rounds N] [--only-throughput]

Same pictures, same random checkpoint, same number of new tokens, each system in processes of its
own, interleaved over several rounds. Time counts from "model loaded" to the last result written.
Prints what it measured and writes benchmarks/results/throughput.json. Nothing is asserted.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import checkpoint, cost, limits, ours, peers, pictures, report
from benchmarks.environment import MISSING_OPENBLAS, RESULTS, ROOT, openblas, this_machine
from benchmarks.processes import end_tidily

CHECKPOINT = RESULTS / "checkpoint"
BATCH_SIZE = 8
WARM_UP_PICTURES, WARM_UP_TOKENS = 2, 4


def main() -> None:
    """Measure, print and write."""
    options = _options()
    end_tidily()
    machine = this_machine()
    if sys.platform.startswith("linux") and not openblas():
        print(f"*** {MISSING_OPENBLAS} ***", file=sys.stderr)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        results = _measured(options, Path(scratch))
    results = {
        "machine": machine.described(),
        "command": shlex.join(["python", "-m", "benchmarks.throughput", *sys.argv[1:]]),
        "settings": {
            "pictures": options.pictures,
            "new_tokens": options.tokens,
            "rounds": options.rounds,
        },
        "seconds": round(time.monotonic() - began),
        **results,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "throughput.json"
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(report.table(results))
    print(f"Written to {path.relative_to(ROOT)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each caption")
    parser.add_argument("--rounds", type=int, default=2, help="default: %(default)s")
    parser.add_argument(
        "--only-throughput", action="store_true", help="leave out CPU cost, start, scan and limits"
    )
    return parser.parse_args()


def _measured(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    _make_checkpoint()
    warm_up = pictures.draw_mixed(scratch / "warm", WARM_UP_PICTURES)
    mixed = pictures.draw_mixed(scratch / "pictures", options.pictures)
    more: dict[str, Any] = {}
    with ours.prefect_server(scratch / "prefect-home") as server:
        bench = _Bench(server, scratch)
        for system in report.SYSTEMS:
            bench.run(system, warm_up, WARM_UP_TOKENS)
        bench.runs.clear()
        for number in range(options.rounds):
            # there and back again, so that a machine that gets slower is slower for all
            order = list(report.SYSTEMS)[:: -1 if number % 2 else 1]
            for system in order:
                bench.run(system, mixed, options.tokens)
        if not options.only_throughput:
            _say("CPU of the flow beyond the device")
            more["cpu_per_picture"] = cost.cpu_per_picture(server, scratch / "cpu")
            _say("from model loaded to the first picture")
            more["seconds_to_first_picture"] = cost.seconds_to_first_picture(
                server, scratch / "first"
            )
    if not options.only_throughput:
        more["scan_seconds"] = cost.scan_seconds(scratch / "scan")
        _say("the limits of this machine")
        more["limits"] = limits.measure(CHECKPOINT, mixed[: limits.BATCH])
    return report.summarised(bench.runs, len(mixed)) | more


class _Bench:
    """Runs one system after the other, and keeps what each took."""

    def __init__(self, server: ours.Server, scratch: Path) -> None:
        self._server = server
        self._scratch = scratch
        self.runs: dict[str, list[report.Run]] = {}

    def run(self, system: str, files: list[Path], tokens: int) -> None:
        """Caption `files` with `system`."""
        runs = self.runs.setdefault(system, [])
        output = Path(tempfile.mkdtemp(prefix=f"{system}-", dir=self._scratch)) / "out"
        summary: dict[str, Any] = {}
        if system in ("a", "b"):
            way = {"a": "loop", "b": "batch"}[system]
            seconds = peers.in_process(way, CHECKPOINT, files, tokens, output)
        elif system == "c":
            seconds = peers.through_server(CHECKPOINT, files, tokens, output)
        else:
            size = BATCH_SIZE if system == "e" else 1
            summary = ours.run(self._server, CHECKPOINT, files[0].parent, tokens, output, size)
            seconds = summary["seconds"]["captioning"]
        texts = [_caption(output, file) for file in files]
        runs.append(report.Run(seconds, texts, summary))
        _say(f"{system}: {report.SYSTEMS[system]}: {len(files) / seconds:.3f} images/s")


def _caption(output: Path, picture: Path) -> str:
    return str(json.loads((output / f"{picture.stem}.json").read_bytes())["caption"]).strip()


def _make_checkpoint() -> None:
    if not checkpoint.is_made(CHECKPOINT):
        _say("a random checkpoint")
        # in a process of its own: this one stays small
        make = [sys.executable, "-m", "benchmarks.checkpoint", str(CHECKPOINT)]
        subprocess.run(make, cwd=ROOT, check=True)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
