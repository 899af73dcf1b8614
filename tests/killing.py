"""Kills a run at random moments and starts it again, until all pictures are captioned.

`python -m tests.killing --kills 20 --pictures 60` does it at length; test_faults.py a little of it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from captioner.output.folder import PROVENANCE
from tests.conftest import CHECKPOINT, ROOT, draw_picture


@dataclass
class Witness(threading.Thread):
    """Reads every JSON file of a directory again and again, and notes the first that is broken."""

    directory: Path
    broken: str = ""
    looks: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not (self.stopping.wait(0.05) or self.broken):
            for path in self.directory.glob("*.json"):
                data = path.read_bytes()
                self.looks += 1
                try:
                    json.loads(data)
                except ValueError:
                    self.broken = f"{path.name}: {data[:200]!r}"


def captioned(lines: list[str]) -> list[str]:
    """The names in the `captioned` lines of a provenance.jsonl; its last line may be half."""
    names = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        names += [record["image"]] if record["result"] == "captioned" else []
    return names


def run_until_done(folder: Path, pictures: int, kills: int, seed: int) -> Witness:
    """Caption `pictures` pictures with `kills` SIGKILLs in between; asserts what must hold."""
    numbers = random.Random(seed)
    (folder / "in").mkdir()
    for number in range(1, pictures + 1):
        draw_picture(folder / "in" / f"p{number}.png", f"P{number}", (96, 64))
    out = folder / "out"
    witness = Witness(out)
    witness.start()
    command = [sys.executable, "flows/caption_flow.py", "--input-dir", str(folder / "in")]
    command += ["--output-dir", str(out), "--model", str(CHECKPOINT), "--max-tokens", "12"]
    done_before: set[str] = set()
    for kill in range(kills + 1):
        read = len(_lines(out))
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        with process:
            if kill < kills:
                # at some moment of the captioning, or before it
                wanted = len(done_before) + numbers.randint(0, 2 * pictures // (kills + 1))
                _wait_for(out, min(wanted, pictures), process)
                time.sleep(numbers.random() * 0.3)
                process.kill()
            _, errors = process.communicate(timeout=300)
        twice = done_before.intersection(captioned(_lines(out)[read:]))
        assert not twice, f"captioned twice: {twice}"
        done_before = {json.loads(path.read_bytes())["image"] for path in out.glob("p*.json")}
    assert process.returncode == 0, errors
    witness.stopping.set()
    witness.join()
    assert not witness.broken, witness.broken
    assert len(done_before) == pictures
    assert len(json.loads((out / "captions.json").read_bytes())) == pictures
    assert not [path.name for path in out.iterdir() if path.name.endswith(".tmp")]
    return witness


def _lines(out: Path) -> list[str]:
    return (out / PROVENANCE).read_text("utf-8").split("\n") if (out / PROVENANCE).exists() else []


def _wait_for(out: Path, wanted: int, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and len(list(out.glob("p*.json"))) < wanted:
        time.sleep(0.02)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    from flows.hosting.server import prefect_server

    with tempfile.TemporaryDirectory() as folder, prefect_server():
        from prefect.settings import PREFECT_API_URL

        os.environ["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        began = time.monotonic()
        witness = run_until_done(Path(folder), asked.pictures, asked.kills, asked.seed)
        print(
            f"{asked.kills} kills, {asked.pictures} captions, none twice; {witness.looks} looks at "
            f"files, all whole; {time.monotonic() - began:.0f} s"
        )
