"""What a folder of a million pictures costs beside the device: its split, its plan, its merge.

    python -m benchmarks.million [--lines 1000000] [--files 20000]

The provenance of a million captions is written once and read as a plan reads it; what is done with
each file (a look at the picture, the caption file read) is measured with fewer files that are
really there, on this machine's disk. Nothing is captioned.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.environment import this_machine
from captioner.asking.prompts import Prompts
from captioner.output.gathering import Gathering
from captioner.output.planning import Planner
from captioner.output.provenance import OnlyRead, Provenance
from captioner.output.rounds import Round, merge
from captioner.pictures.names import caption_file_names
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.plan import Scan, Shard, shard_of
from captioner.records import Caption, Generation, Job, Picture, Recipe, Stamp
from captioner.run import Run
from captioner.settings import Settings

T = TypeVar("T")
TEXT = "A left-to-right flowchart of three nodes: a red box, a blue circle and a green box. " * 5


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="What a folder of a million pictures costs.")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20_000)
    asked = parser.parse_args()
    print(this_machine().described())
    with tempfile.TemporaryDirectory() as folder:
        many(asked.lines, Path(folder) / "many")
        real(asked.files, Path(folder) / "real")


def many(count: int, folder: Path) -> None:
    """What needs no file for each picture."""
    keys = [f"picture {number:07}.jpg" for number in range(count)]
    print(f"{count:,} keys:")
    measured("the shard of each", lambda: [shard_of(key, 12) for key in keys])
    measured("a caption file name for each", lambda: caption_file_names(keys))
    folder.mkdir()
    path = folder / "provenance.jsonl"
    write_provenance(path, keys)
    print(f"  provenance.jsonl: {path.stat().st_size / count:,.0f} bytes a picture")
    with measured("the provenance read, as for a plan", lambda: Provenance(path).read()) as history:
        assert sum(1 for _ in history.files()) == count
    lines = path.rename(folder / "provenance-1-of-1-00000000.jsonl")
    settings = Settings(input_dir=folder / "in", output_dir=folder)
    gathering = Gathering(folder)
    gathering.round = Round("0", 1, {})
    run = Run(settings)
    pictures = [Picture(key, folder) for key in keys]
    gathering.expect(Job(p, f"{p.key}.json", n, count) for n, p in enumerate(pictures, 1))
    measured("what the shards made, noted by the dispatcher", lambda: gathering.note(run))
    assert len(run.captioned) == count
    measured("the same once more, without news", lambda: gathering.note(run))
    measured("the merge", lambda: merge(folder))
    assert not lines.exists()


def real(count: int, folder: Path) -> None:
    """What is done with each file, with files that are there."""
    settings = Settings(input_dir=folder / "in", output_dir=folder / "out")
    settings.input_dir.mkdir(parents=True)
    settings.output_dir.mkdir()
    keys = [f"picture {number:07}.jpg" for number in range(count)]
    for key in keys:
        (settings.input_dir / key).write_bytes(b"0" * 100)
        entry = {"image": key, "prompt": "Describe.", "caption": TEXT}
        (settings.output_dir / f"{Path(key).stem}.json").write_text(json.dumps(entry, indent=2))
    write_provenance(settings.output_dir / "provenance.jsonl", keys, settings.input_dir)
    print(f"{count:,} pictures with their captions, all up to date:")
    found = measured("the scan", lambda: scan(settings.input_dir))
    assert isinstance(found, Scan)
    recipe = Recipe.of(settings, "0" * 40)

    def plan(shard: str | None) -> int:
        chosen = settings.model_copy(update={"shard": shard})
        provenance = OnlyRead(settings.output_dir / "provenance.jsonl")
        about = settings.output_dir, provenance, chosen, recipe, Prompts(chosen).of
        with Planner(*about) as planner:
            return len(planner.plan(found.pictures).up_to_date)

    assert measured("the plan of the whole folder", lambda: plan(None)) == count
    part = measured("the plan of shard 1 of 12", lambda: plan("1/12"))
    assert part == sum(Shard(1, 12).holds(key) for key in keys)


def write_provenance(path: Path, keys: list[str], pictures: Path | None = None) -> None:
    """A line for each of the keys, as a shard writes it."""
    provenance = Provenance(path)
    settings = Settings()
    recipe = Recipe.of(settings, "0" * 40)
    generation = Generation(TEXT, "stop", 1000, 900, 1280, 960, 90, 1.0, 9.0)
    stamp = stamp_of(pictures / keys[0]) if pictures else Stamp(1_000_000, 1 << 60, "0" * 64)
    job = Job(Picture("KEY", Path()), "STEM.json", 1, 1)
    caption = Caption(job, settings.user_prompt, generation, stamp)
    provenance.add_caption(caption, recipe, again=None, prefill_seconds=1.0)
    line = path.read_text()
    with path.open("w") as file:
        for key in keys:
            if pictures:
                modified = (pictures / key).stat().st_mtime_ns
                line_of_it = line.replace(str(stamp.mtime_ns), str(modified))
            else:
                line_of_it = line
            file.write(line_of_it.replace("KEY", key).replace("STEM", Path(key).stem))


def measured(what: str, do: Callable[[], T]) -> T:
    """Do it, and print how long that took, of the clock and of the processor, and how much memory
    the process has had so far."""
    began, busy = time.perf_counter(), time.process_time()
    result = do()
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    figures = f"{seconds:.1f} s, {cpu:.1f} s of the processor; at most {peak:.1f} GB so far"
    print(f"  {what}: {figures}", flush=True)
    return result


if __name__ == "__main__":
    main()
