"""This flow against the other ways to caption a folder with mlx-vlm, in one run.

    python -m benchmarks.throughput [--geometry small|4b|30b] [--systems a,b,c,bare,d,e] ...

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

from benchmarks import checkpoint, cost, limits, ours, peers, pictures, published, report
from benchmarks.environment import (
    MISSING_OPENBLAS,
    RESULTS,
    ROOT,
    gpu,
    measured,
    openblas,
    this_machine,
)
from benchmarks.processes import end_tidily

WARM_UP_TOKENS = 4
SERVER_IN_FLIGHT = (8, 4, 2, 1)  # as many as it bears


def main() -> None:
    """Measure, print and write."""
    options = _options()
    end_tidily()
    machine = this_machine()
    if not gpu() and not openblas():
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
    parser.add_argument("--geometry", choices=("small", *published.GEOMETRIES), default="small")
    parser.add_argument("--pictures", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each caption")
    parser.add_argument("--pixels", type=int, default=2_097_152, help="of a picture, at most")
    parser.add_argument("--systems", default="a,b,c,bare,d,e", help="default: %(default)s")
    parser.add_argument("--batch-sizes", default="8", help="of bare and e, as in 8,16")
    parser.add_argument("--rounds", type=int, default=2, help="default: %(default)s")
    parser.add_argument(
        "--only-throughput", action="store_true", help="leave out CPU cost, start, scan and limits"
    )
    return parser.parse_args()


def _systems(options: argparse.Namespace) -> dict[str, int]:
    """Each system with its batch size; `bare` and `e` come once for each, unless they name one."""
    sizes = [int(size) for size in options.batch_sizes.split(",")]
    found = {}
    for name in options.systems.split(","):
        letters = name.rstrip("0123456789")
        if letters != name:  # such as e16
            found[name] = int(name.removeprefix(letters))
        elif name == "bare":
            found.update({f"bare{size}": size for size in (1, *sizes)})
        elif name == "e":
            found.update({f"e{size}": size for size in sizes})
        else:
            found[name] = 1
    return found


def _measured(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    model = _checkpoint(options.geometry)
    large = options.geometry != "small"
    draw = [scratch / "pictures", options.pictures, large, options.pixels]
    mixed = pictures.draw_mixed(*draw)
    shapes = len(pictures.LARGE_SIZES if large else pictures.SIZES)
    warm_up = pictures.draw_mixed(scratch / "warm", shapes, large, options.pixels)
    more: dict[str, Any] = {}
    systems = _systems(options)
    with ours.prefect_server(scratch / "prefect-home") as server:
        bench = _Bench(server, model, scratch)
        for system, size in list(systems.items()):
            bench.run(system, size, warm_up, WARM_UP_TOKENS)
        bench.runs.clear()
        for number in range(options.rounds):
            # there and back again, so that a machine that gets slower is slower for all
            for system in list(systems)[:: -1 if number % 2 else 1]:
                bench.run(system, systems[system], mixed, options.tokens)
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
        most = max(systems.values())
        more["limits"] = limits.measure(model, mixed[:most], most)
    return report.summarised(bench.runs, len(mixed)) | more


class _Bench:
    """Runs one system after the other, and keeps what each took."""

    def __init__(self, server: ours.Server, model: Path, scratch: Path) -> None:
        self._server, self._model, self._scratch = server, model, scratch
        self._in_flight = list(SERVER_IN_FLIGHT)
        self.runs: dict[str, list[report.Run]] = {}

    def run(self, system: str, size: int, files: list[Path], tokens: int) -> None:
        """Caption `files` with `system`; one that fails is said, and is not in the table."""
        output = Path(tempfile.mkdtemp(prefix=f"{system}-", dir=self._scratch)) / "out"
        try:
            run = self._run(system, size, files, tokens, output)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            _say(f"{system} failed: {str(error)[-600:]}")
            return
        self.runs.setdefault(system, []).append(run)
        _say(f"{system}: {len(files) / run.seconds:.3f} images/s {json.dumps(run.spent)}")

    def _run(
        self, system: str, size: int, files: list[Path], tokens: int, output: Path
    ) -> report.Run:
        if system.startswith("bare"):
            return self._bare(size, files, tokens)
        summary: dict[str, Any] = {}
        if system in ("a", "b"):
            way = {"a": "loop", "b": "batch"}[system]
            seconds = peers.in_process(way, self._model, files, tokens, output)
        elif system == "c":
            seconds = self._through_server(files, tokens, output)
        else:
            summary = ours.run(self._server, self._model, files[0].parent, tokens, output, size)
            seconds = summary["seconds"]["captioning"]
        return report.Run(seconds, [_caption(output, file) for file in files], summary)

    def _bare(self, size: int, files: list[Path], tokens: int) -> report.Run:
        command = [sys.executable, "-m", "benchmarks.bare", str(self._model), str(tokens)]
        done = subprocess.run(
            [*command, str(size), *map(str, files)],
            env=measured(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            timeout=peers.TIMEOUT,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        if set(found["lengths"]) != {tokens}:
            raise RuntimeError(
                f"captions of {found['lengths']} tokens where {tokens} were asked for"
            )
        texts = [text.strip() for text in found["texts"]]
        spent = {name: round(value, 2) for name, value in found["spent"].items()}
        return report.Run(found["seconds"], texts, {}, spent)

    def _through_server(self, files: list[Path], tokens: int, output: Path) -> float:
        while True:
            try:
                return peers.through_server(self._model, files, tokens, output, self._in_flight[0])
            except (RuntimeError, OSError) as error:
                _say(f"c with {self._in_flight[0]} in flight: {str(error)[-300:]}")
                if len(self._in_flight) == 1:
                    raise
                del self._in_flight[0]


def _caption(output: Path, picture: Path) -> str:
    return str(json.loads((output / f"{picture.stem}.json").read_bytes())["caption"]).strip()


def _checkpoint(geometry: str) -> Path:
    directory = RESULTS / f"checkpoint-{geometry}"
    small = geometry == "small"
    if not checkpoint.is_made(directory, None if small else published.config_of(geometry)):
        _say("a random checkpoint")
        # in a process of its own: this one stays small
        module = "benchmarks.checkpoint" if small else "benchmarks.published"
        more = [] if small else [geometry]
        make = [sys.executable, "-m", module, str(directory), *more]
        subprocess.run(make, cwd=ROOT, env=measured(), check=True)
    return directory


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
