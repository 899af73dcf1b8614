"""What a large tree costs before the first caption: the scan, the plan, and `--plan`.

    python -m benchmarks.tree

makes a tree of small PNG files, and a tenth of it, and prints seconds and memory for both, with no
caption yet and with all of them up to date, and what a picture of the larger one took more. Memory
is the most that the process had. No model is
loaded: the captions are written as a run would have written them, but not one by one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import pictures
from benchmarks.checkpoint import EMBEDDED
from benchmarks.environment import ROOT, this_machine
from captioner.asking.prompts import Prompts
from captioner.checkpoint.find import known_revision
from captioner.output.folder import PROVENANCE, OutputFolder
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.records import Caption, Generation, Recipe
from captioner.settings import Settings

PARTS = 10  # folders on each level but the last


def make_tree(directory: Path, files: int, folders: int) -> None:
    """The files, spread evenly over folders in three levels."""
    pictures.draw_tiny(directory, 1)
    (first,) = directory.iterdir()
    data = first.read_bytes()
    first.unlink()
    for folder in range(folders):
        below = directory / f"{folder % PARTS}" / f"{folder // PARTS % PARTS}" / f"event {folder}"
        below.mkdir(parents=True)
        for number in range(files // folders):
            (below / f"IMG_{number:04d}.png").write_bytes(data)


def caption_all(settings: Settings, revision: str) -> None:
    """Every caption file and its line, as a run leaves them; all pictures have the same bytes."""
    found = scan(settings.input_dir, recursive=True)
    figures = Generation("A picture.", "stop", 100, 80, 64, 64, 4, 0.1, 0.1)
    with OutputFolder(settings.output_dir) as output:
        recipe = Recipe.of(settings, revision)
        jobs = output.plan(found, settings, recipe, Prompts(settings).of).todo
        stamp = stamp_of(jobs[0].picture.path)
        output.save(Caption(jobs[0], settings.user_prompt, figures, stamp), recipe)
    line = json.loads((settings.output_dir / PROVENANCE).read_text())
    entry = json.loads((settings.output_dir / jobs[0].caption_file).read_text())
    with (settings.output_dir / PROVENANCE).open("w") as provenance:
        for job in jobs:
            key, file = job.picture.key, settings.output_dir / job.caption_file
            changed = job.picture.path.stat().st_mtime_ns
            own = {"image": key, "caption_file": job.caption_file, "image_mtime_ns": changed}
            provenance.write(json.dumps(line | own) + "\n")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(entry | {"image": key}, indent=2) + "\n")


def measured(command: list[str]) -> tuple[str, float, float, int]:
    """What the command prints, its seconds, its CPU seconds, and the most memory, in MB."""
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    peak = used.ru_maxrss >> (20 if sys.platform == "darwin" else 10)
    return said, time.perf_counter() - began, used.ru_utime + used.ru_stime, peak


def measure(settings: Settings, what: str) -> tuple[int, int]:
    """Print a line about the scan and the plan, and one about the command with `--plan`; returns
    the most memory of both, in MB."""
    places = [str(settings.input_dir), str(settings.output_dir)]
    said, _, _, most = measured([sys.executable, "-m", "benchmarks.tree", "--step", *places])
    scanning, planning, todo, done = said.split()
    print(
        f"{what}: scan {float(scanning):.1f} s, plan {float(planning):.1f} s of CPU, {most} MB "
        f"({todo} to caption, {done} up to date)"
    )
    command = [sys.executable, "flows/caption_flow.py", places[0], "--output-dir", places[1]]
    command += ["--model", str(EMBEDDED), "--recursive", "--plan"]
    _, seconds, cpu, peak = measured(command)
    print(f"{what}: --plan {seconds:.1f} s, {cpu:.1f} s of CPU, {peak} MB", flush=True)
    return most, peak


def step(settings: Settings) -> None:
    """The scan and the plan; prints the CPU seconds of both, and what is to be done."""
    began = time.process_time()
    found = scan(settings.input_dir, recursive=True, output_dir=settings.output_dir)
    scanned = time.process_time()
    recipe = Recipe.of(settings, known_revision(settings))
    output, ask = OutputFolder(settings.output_dir), Prompts(settings).of
    plan, _ = output.preview(found, settings, recipe, ask)
    planned = time.process_time()
    print(scanned - began, planned - scanned, len(plan.todo), len(plan.up_to_date))


def settings_of(input_dir: Path, output_dir: Path) -> Settings:
    """Those of every step."""
    return Settings(input_dir=input_dir, output_dir=output_dir, model=EMBEDDED, recursive=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folders", type=int, default=1_000)
    parser.add_argument("--step", nargs=2, type=Path, help="for the processes that are measured")
    asked = parser.parse_args()
    if asked.step:
        step(settings_of(*asked.step))
        return
    print(this_machine().described(), flush=True)
    peaks: list[tuple[int, ...]] = []
    for part in (10, 1):
        files, folders = asked.files // part, asked.folders // part
        with tempfile.TemporaryDirectory() as name:
            settings = settings_of(Path(name) / "in", Path(name) / "out")
            make_tree(settings.input_dir, files, folders)
            size = f"{files:,} files in {folders:,} folders"
            new = measure(settings, f"{size}, nothing captioned")
            caption_all(settings, known_revision(settings) or "")
            peaks.append(new + measure(settings, f"{size}, all captioned"))
    more = asked.files - asked.files // 10
    grown = [(large - small) * (1 << 20) // more for small, large in zip(*peaks, strict=True)]
    kinds = ("nothing captioned", "the same, --plan", "all captioned", "the same, --plan")
    for kind, each in zip(kinds, grown, strict=True):
        print(f"{kind}: {each} bytes a picture")


if __name__ == "__main__":
    main()
