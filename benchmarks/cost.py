"""What the flow costs beside the device: CPU per picture, the way to the first one, the scan.

With a tiny checkpoint and few tokens, so that the device does not drown what is measured, and with
one BLAS thread, since OpenBLAS's others spin while they wait.

    python -m benchmarks.cost CHECKPOINT TOKENS DIRECTORY

is the bare device, without Prefect, over the pictures of a directory.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import ours, pictures
from benchmarks.checkpoint import EMBEDDED, make_checkpoint
from benchmarks.environment import ROOT
from benchmarks.peers import PROMPT
from benchmarks.processes import cpu_seconds, stopped

FEW, MANY = 40, 240  # what starting costs is the same for both, and goes out
TOKENS = 4
SMALL_FOLDER, LARGE_FOLDER = 10, 5_000
SCANNED = 10_000
LOADED, PROCESSING = b"Model loaded", b"Processing"


def cpu_per_picture(server: ours.Server, directory: Path) -> dict[str, float]:
    """CPU milliseconds per picture of the flow, of three empty task runs, and of the bare device.

    Of the first two with what the Prefect server takes for them.
    """
    model = directory / "checkpoint"
    make_checkpoint(model, tiny=True)
    folders = {number: directory / f"in-{number}" for number in (FEW, MANY)}
    for number, folder in folders.items():
        pictures.draw_tiny(folder, number)
    ours.run(server, model, folders[FEW], TOKENS, directory / "out-warm")

    def flow(number: int) -> list[str]:
        return ours.command(model, folders[number], TOKENS, directory / f"out-{number}")

    def empty(number: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.empty_flow", str(number)]

    def bare(number: int) -> list[str]:
        command = [sys.executable, "-m", "benchmarks.cost", str(model), str(TOKENS)]
        return [*command, str(folders[number])]

    flow_ms, flow_server_ms = _milliseconds(flow, server)
    empty_ms, empty_server_ms = _milliseconds(empty, server)
    bare_ms, _ = _milliseconds(bare, server)
    return {
        "flow_process_ms": flow_ms,
        "prefect_server_ms": flow_server_ms,
        "bare_device_ms": bare_ms,
        "flow_beyond_device_ms": flow_ms + flow_server_ms - bare_ms,
        "empty_task_runs_process_ms": empty_ms,
        "empty_task_runs_server_ms": empty_server_ms,
    }


def _milliseconds(command: Callable[[int], list[str]], server: ours.Server) -> tuple[float, float]:
    """CPU milliseconds per picture of the command's process and of the server meanwhile."""
    process, beside = {}, {}
    for number in (FEW, MANY):
        before = cpu_seconds(server.pid)
        process[number] = _cpu(command(number), ours.environment(server, threads=1))
        time.sleep(2)  # for what the server still writes
        beside[number] = cpu_seconds(server.pid) - before
    each = 1e3 / (MANY - FEW)
    return (process[MANY] - process[FEW]) * each, (beside[MANY] - beside[FEW]) * each


def seconds_to_first_picture(server: ours.Server, directory: Path) -> dict[str, float]:
    """Seconds from "model loaded" to the first picture on the device, by the folder's size."""
    found = {}
    for number in (SMALL_FOLDER, LARGE_FOLDER):
        folder = directory / f"in-{number}"
        pictures.copy_tiny(folder, number)
        times = [_first_picture(server, folder, directory / f"out-{number}") for _ in range(2)]
        found[f"folder_of_{number}"] = min(times)
    return found


def scan_seconds(directory: Path) -> float:
    """Seconds to scan a directory of 10,000 pictures."""
    from captioner.scanning import scan

    directory.mkdir(parents=True)
    for number in range(SCANNED):
        (directory / f"picture {number}.{'jpg' if number % 2 else 'PNG'}").write_bytes(b"-")
    times = []
    for _ in range(3):
        began = time.perf_counter()
        scan(directory)
        times.append(time.perf_counter() - began)
    return median(times)


def _cpu(command: list[str], environment: dict[str, str]) -> float:
    """Run the command; the CPU seconds of its process."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=quiet, stderr=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def _first_picture(server: ours.Server, folder: Path, output: Path) -> float:
    with stopped(
        subprocess.Popen(
            ours.command(EMBEDDED, folder, TOKENS, output),
            env=ours.environment(server),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    ) as process:
        loaded = 0.0
        for line in process.stdout or ():
            if LOADED in line:
                loaded = time.perf_counter()
            elif PROCESSING in line and loaded:
                seconds = time.perf_counter() - loaded
                process.kill()  # an interrupt would wait for what is being recorded
                return seconds
    raise RuntimeError("the flow never took up a picture")


def _bare_device(checkpoint: Path, tokens: int, directory: Path) -> None:
    from captioner.device import Device
    from captioner.images import load_image
    from captioner.mlx_rows import Request
    from captioner.scanning import scan
    from captioner.settings import DEFAULTS

    device = Device(checkpoint)
    request = Request(PROMPT, None, tokens, 0.0)
    for turn, picture in enumerate(scan(directory)):
        opened = partial(load_image, picture.path, DEFAULTS.max_pixels)
        device.caption(turn, opened, request, lambda: None)
    device.stop()


if __name__ == "__main__":
    _bare_device(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
