"""What the flow costs beside the device: CPU per picture, the way to the first one, the scan.

With a tiny checkpoint and few tokens, so that the device does not drown what is measured, and with
one BLAS thread, since OpenBLAS's others spin while they wait.

    python -m benchmarks.cost CHECKPOINT TOKENS DIRECTORY

is the bare device, without Prefect, over the pictures of a directory.
"""

import sys
import time
from collections import defaultdict, deque
from functools import partial
from pathlib import Path
from statistics import mean, median

from benchmarks import ours, pictures
from benchmarks.checkpoint import EMBEDDED, make_checkpoint
from benchmarks.peers import PROMPT
from benchmarks.processes import cpu_seconds

FROM, TO, PICTURES = 40, 220, 240  # a process is measured between two of them
ROUNDS = 2
TOKENS = 4
SMALL_FOLDER, LARGE_FOLDER = 10, 5_000
SCANNED = 10_000
LOADED, PROCESSING, SAVED = b"Model loaded", b"Processing", b"Saved"


def cpu_per_picture(server: ours.Server, directory: Path) -> dict[str, float]:
    """CPU milliseconds per picture of the flow, of three empty task runs, and of the bare device.

    Of the first two with what the Prefect server takes for them. One after the other, twice, since
    the speed of a shared machine changes from minute to minute.
    """
    model, folder = directory / "checkpoint", directory / "in"
    make_checkpoint(model, tiny=True)
    pictures.draw_tiny(folder, PICTURES)
    module = [sys.executable, "-m"]
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS):
        commands = {
            "flow": ours.command(model, folder, TOKENS, directory / f"out-{number}"),
            "empty_task_runs": [*module, "benchmarks.empty_flow", str(PICTURES)],
            "bare_device": [*module, "benchmarks.cost", str(model), str(TOKENS), str(folder)],
        }
        for name, command in commands.items():
            process, beside = _milliseconds(command, server)
            found[f"{name}_process_ms"].append(process)
            found[f"{name}_server_ms"].append(beside)
    cpu = {name: mean(values) for name, values in found.items()}
    flow = cpu["flow_process_ms"] + cpu["flow_server_ms"]
    return {**cpu, "flow_beyond_device_ms": flow - cpu["bare_device_process_ms"]}


def _milliseconds(command: list[str], server: ours.Server) -> tuple[float, float]:
    """CPU milliseconds per picture of the command's process and of the server, start included.

    The command prints a line with `Saved` for each of its pictures.
    """
    before = cpu_seconds(server.pid)
    used = {}
    with ours.started(server, command, threads=1) as process:
        done = 0
        for line in process.stdout or ():
            done += SAVED in line
            if done in (FROM, TO) and done not in used:
                used[done] = cpu_seconds(process.pid)
        if process.wait() or done != PICTURES:
            raise RuntimeError(f"{command} ended with {process.returncode} after {done} pictures")
    time.sleep(2)  # it records some time after what happened
    beside = cpu_seconds(server.pid) - before
    return 1e3 * (used[TO] - used[FROM]) / (TO - FROM), 1e3 * beside / PICTURES


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
    from captioner.pictures.scan import scan

    directory.mkdir(parents=True)
    for number in range(SCANNED):
        (directory / f"picture {number}.{'jpg' if number % 2 else 'PNG'}").write_bytes(b"-")
    times = []
    for _ in range(3):
        began = time.perf_counter()
        scan(directory)
        times.append(time.perf_counter() - began)
    return median(times)


def _first_picture(server: ours.Server, folder: Path, output: Path) -> float:
    with ours.started(server, ours.command(EMBEDDED, folder, TOKENS, output)) as process:
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
    """As the flow does it: a few pictures stand in line, so that they are prepared meanwhile."""
    from captioner.device.device import Device
    from captioner.device.rows import Request
    from captioner.device.work import Work
    from captioner.pictures.decoding import load_image
    from captioner.pictures.scan import scan
    from captioner.records import Picture
    from captioner.settings import DEFAULTS

    request = Request(PROMPT, None, tokens, 0.0)
    in_line: deque[tuple[Picture, Work]] = deque()

    def save_first() -> None:
        picture, work = in_line.popleft()
        work.result()
        print("Saved", picture.label, flush=True)

    with Device(checkpoint) as device:
        for picture in scan(directory).pictures:
            take = partial(load_image, picture.path, DEFAULTS.max_pixels)
            in_line.append((picture, device.begin(take, request)))
            if len(in_line) == device.batch_size + device.ahead:
                save_first()
        while in_line:
            save_first()


if __name__ == "__main__":
    _bare_device(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
