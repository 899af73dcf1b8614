"""Mutated files end as pictures or with a reason, in a process whose every word and byte counts;
so do folders that hold something else than our own files."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.mutants import joined, mutant, split, whole_files

COMBINATIONS = {"folders": 120, "checkpoints": 12}
FILES = 400  # of the 5,000 that `python -m tests.fuzz` puts through


@pytest.mark.model
def test_mutated_files_end_as_pictures_or_with_a_reason() -> None:
    """A crash or a hang of the libraries in C would take the process with it."""
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "tests.fuzz", f"--files={FILES}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert (run.returncode, run.stderr) == (0, "")
    figures = json.loads(run.stdout)
    assert figures["valid"] + figures["skipped"] == FILES
    assert min(figures["valid"], figures["skipped"]) > FILES // 5
    assert len(figures["reasons"]) > 10
    assert figures["more_for_the_files"] < 200  # MB


@pytest.mark.parametrize("kind", ["folders", "checkpoints"])
def test_nothing_in_the_place_of_our_files_hangs_a_run_or_leads_it_out_of_its_folder(
    kind: str,
) -> None:
    """A part of what `python -m tests.fuzz --folders 600 --checkpoints 200` goes through."""
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "tests.fuzz", f"--{kind}={COMBINATIONS[kind]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    assert figures["combinations"] == COMBINATIONS[kind]
    assert len(figures["ends"]) in (2, 6)  # at each of the moments, well and with a sentence
    assert figures["slowest_seconds"] < 20


def test_a_seed_gives_the_same_files_of_both_formats() -> None:
    sources = whole_files()
    made = [mutant(sources, 1, index) for index in range(60)]
    assert made == [mutant(sources, 1, index) for index in range(60)]
    assert made != [mutant(sources, 2, index) for index in range(60)]
    assert {name.rpartition(".")[2] for name, _ in made} == {"png", "jpg", "jpeg"}
    for data in sources:
        assert joined(data[1:4] == b"PNG", split(data)) == data
