"""Kills a run at random moments and starts it again, until all pictures are captioned.

    python -m tests.killing --kills 20 --pictures 60
    python -m tests.killing --minutes 60 --faults    # and its system calls fail at random

With faults (`faulty.c`, which wants a C compiler) a second prompt follows the first, so that there
are older captions to replace. test_faults.py does a little of both.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captioner.output.folder import PROVENANCE
from tests.conftest import CHECKPOINT, ROOT, draw_picture

PROMPTS = ("Describe it.", "Describe it once more.")
ODDS = (6, 60)  # one call in so many fails, in the worst run and in the best


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


@dataclass
class Figures:
    """What was tried."""

    runs: int = 0
    kills: int = 0
    captions: int = 0
    looks: int = 0  # at JSON files while somebody wrote there, all of them whole
    ends: Counter[int] = field(default_factory=Counter)  # by exit code
    faults: Counter[str] = field(default_factory=Counter)  # by call and error

    def add(self, other: "Figures") -> None:
        """Add up."""
        self.runs += other.runs
        self.kills += other.kills
        self.captions += other.captions
        self.looks += other.looks
        self.ends += other.ends
        self.faults += other.faults

    def __str__(self) -> str:
        ends, faults = (dict(sorted(counts.items())) for counts in (self.ends, self.faults))
        return (
            f"{self.runs} runs ({self.kills} killed), {self.captions} captions, none lost and none "
            f"twice; {self.looks} looks at files, all whole; exit codes {ends}; "
            f"{self.faults.total()} faults: {faults}"
        )


def compiled(folder: Path) -> Path:
    """The library that makes system calls fail.

    Raises:
        FileNotFoundError: there is no C compiler.
    """
    library = folder / "faulty.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), "tests/faulty.c", "-ldl"]
    subprocess.run(command, cwd=ROOT, check=True)
    return library


class Trial:
    """One folder, captioned by runs that are killed or whose system calls fail."""

    def __init__(
        self, folder: Path, pictures: int, seed: int, model: Path, library: Path | None
    ) -> None:
        self._folder, self._out, self._pictures = folder, folder / "out", pictures
        self._numbers, self._library = random.Random(seed), library
        self._command = [sys.executable, "flows/caption_flow.py", "--max-tokens=12"]
        self._command += [f"--input-dir={folder / 'in'}", f"--output-dir={self._out}"]
        self._command += [f"--model={model}"]
        self.figures = Figures()
        (folder / "in").mkdir()
        for number in range(1, pictures + 1):
            draw_picture(folder / "in" / f"p{number}.png", f"P{number}", (96, 64))

    def caption(self, prompt: str, attempts: int, kill: float = 1.0) -> None:
        """Caption all with a prompt: `attempts` runs that are disturbed, `kill` of them killed,
        and then one that is not; asserts what must hold after each."""
        witness = Witness(self._out)
        witness.start()
        done: dict[str, bytes] = {}
        for attempt in range(attempts + 1):
            undisturbed = attempt == attempts or len(done) == self._pictures
            killed = not undisturbed and self._numbers.random() < kill
            read = len(_lines(self._out))
            code, errors = self._run(prompt, len(done), disturbed=not undisturbed, kill=killed)
            assert code in ((0,) if undisturbed else (0, 1, 2, -9)), errors
            assert "Traceback" not in errors and "Unexpected" not in errors, errors
            twice = done.keys() & set(captioned(_lines(self._out)[read:]))
            assert not twice, f"captioned twice: {twice}"
            now = self._done(prompt)
            assert done.items() <= now.items(), "lost, or written once more"
            assert code or len(now) == self._pictures == len(self._read("captions.json")), errors
            done = now
            if undisturbed:
                break
        witness.stopping.set()
        witness.join()
        assert not witness.broken, witness.broken
        counts = self._read("summary.json")["counts"]
        assert not (counts["edited"] or counts["unreadable"]), counts  # nobody was here
        assert not list(self._out.glob(".*.tmp"))
        self.figures.captions += len(done)
        self.figures.looks += witness.looks

    def _run(self, prompt: str, done: int, *, disturbed: bool, kill: bool) -> tuple[int, str]:
        log, environment = self._folder / "faults", dict(os.environ)
        if disturbed and self._library:
            environment |= {
                "LD_PRELOAD": f"{self._library}:{environment.get('LD_PRELOAD', '')}",
                "FAULTY_DIRECTORY": str(self._out),
                "FAULTY_LOG": str(log),
                "FAULTY_ODDS": str(self._numbers.randint(*ODDS)),
                "FAULTY_SEED": str(self._numbers.randrange(1 << 30)),
            }
        command = [*self._command, f"--user-prompt={prompt}"]
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            if kill:  # at some moment of the captioning, or before it
                wanted = done + self._numbers.randint(0, self._pictures // 2)
                while process.poll() is None and len(self._done(prompt)) < wanted:
                    time.sleep(0.02)
                time.sleep(self._numbers.random() * 0.3)
                process.kill()
            _, errors = process.communicate(timeout=300)
        if log.exists():
            self.figures.faults.update(log.read_text().splitlines())
            log.unlink()
        self.figures.runs += 1
        self.figures.kills += process.returncode == -9
        self.figures.ends[process.returncode] += 1
        return process.returncode, errors

    def _done(self, prompt: str) -> dict[str, bytes]:
        """What is in the caption files that were made with the prompt, by picture."""
        files = {path: path.read_bytes() for path in self._out.glob("p*.json")}
        entries = {path: json.loads(data) for path, data in files.items()}
        return {e["image"]: files[path] for path, e in entries.items() if e["prompt"] == prompt}

    def _read(self, file: str) -> Any:
        return json.loads((self._out / file).read_bytes())


def captioned(lines: list[str]) -> list[str]:
    """The names in the `captioned` lines of a provenance.jsonl."""
    names = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        names += [record["image"]] if record["result"] == "captioned" else []
    return names


def _lines(out: Path) -> list[str]:
    """The lines of the provenance, but for a last one that has no end yet."""
    path = out / PROVENANCE
    return path.read_text("utf-8", "replace").split("\n")[:-1] if path.exists() else []


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--kills", type=int, default=20, help="and runs that fail, with --faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--minutes", type=float, default=0, help="new folders for as long as that")
    asked = parser.parse_args()
    from flows.hosting.server import prefect_server

    with tempfile.TemporaryDirectory() as top, prefect_server():
        from prefect.settings import PREFECT_API_URL

        os.environ["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        library = compiled(Path(top)) if asked.faults else None
        began = time.monotonic()
        total = Figures()
        for seed in itertools.count(asked.seed):
            with tempfile.TemporaryDirectory(dir=top) as folder:
                trial = Trial(Path(folder), asked.pictures, seed, CHECKPOINT, library)
                for prompt in PROMPTS if library else PROMPTS[:1]:
                    trial.caption(prompt, asked.kills, kill=0.3 if library else 1.0)
            total.add(trial.figures)
            seconds = time.monotonic() - began
            print(f"{total}; seed {seed}, {seconds:.0f} s", flush=True)
            if seconds >= 60 * asked.minutes:
                return


if __name__ == "__main__":
    main()
