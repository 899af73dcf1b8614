"""What the flow costs beside the device: CPU per picture, the way to the first one, the scan.

With the embedded checkpoint and few tokens, so that the device does not drown what is measured,
and with one BLAS thread, since OpenBLAS's others spin while they wait.

    python -m benchmarks.cost CHECKPOINT TOKENS DIRECTORY

is the bare device, without Prefect, over the pictures of a directory.
"""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import ours, pictures
from benchmarks.checkpoint import EMBEDDED
from benchmarks.environment import ROOT, measured
from benchmarks.peers import PROMPT
from benchmarks.processes import cpu_seconds, stopped

FEW, MANY = 20, 120  # what starting costs is the same for both, and goes out
TOKENS = 4
SMALL_FOLDER, LARGE_FOLDER = 10, 5_000
SCANNED = 10_000
LOADED, PROCESSING = b"Model loaded", b"Processing"


def cpu_per_picture(server: ours.Server, directory: Path) -> dict[str, float]:
    """CPU milliseconds per picture of the flow, its server and the bare device."""
    for number in (FEW, MANY):
        pictures.draw_tiny(directory / f"in-{number}", number)
    ours.run(server, EMBEDDED, directory / f"in-{FEW}", TOKENS, directory / "out-warm")
    flow, prefect, bare = {}, {}, {}
    for number in (FEW, MANY):
        folder = directory / f"in-{number}"
        before = cpu_seconds(server.pid)
        flow[number] = _cpu(
            ours.command(EMBEDDED, folder, TOKENS, directory / f"out-{number}"),
            ours.environment(server, threads=1),
        )
        time.sleep(2)  # for what the server still writes
        prefect[number] = cpu_seconds(server.pid) - before
        command = [sys.executable, "-m", "benchmarks.cost", str(EMBEDDED), str(TOKENS)]
        bare[number] = _cpu([*command, str(folder)], measured(threads=1))
    each = 1e3 / (MANY - FEW)
    figures = {
        "flow_process_ms": (flow[MANY] - flow[FEW]) * each,
        "prefect_server_ms": (prefect[MANY] - prefect[FEW]) * each,
        "bare_device_ms": (bare[MANY] - bare[FEW]) * each,
    }
    beyond = figures["flow_process_ms"] + figures["prefect_server_ms"] - figures["bare_device_ms"]
    return figures | {"flow_beyond_device_ms": beyond}


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
