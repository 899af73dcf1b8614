"""The live line: what it says at each moment, and that it fits."""

import time
from pathlib import Path

import pytest

from captioner.plan import Plan
from captioner.records import Checkpoint, Job, LoadedModel, Picture, Progress, Skipped
from captioner.run import Run, Watch
from captioner.settings import DEFAULTS
from flows.hosting.live_line import LiveLine, clock


@pytest.fixture
def watch() -> Watch:
    """Of a run that has twelve pictures to caption, and no model yet."""
    watch = Watch()
    watch.run = Run(DEFAULTS)
    pictures = [Picture(f"picture-{n}.png", Path("in")) for n in range(1, 13)]
    todo = [Job(picture, "x.json", n, 12) for n, picture in enumerate(pictures, start=1)]
    watch.run.plan = Plan(pictures, {}, todo=todo)
    return watch


def captioning(watch: Watch, done: int) -> Run:
    """The run, with so many of its pictures skipped and the next one on the device."""
    assert watch.run
    run = watch.run
    run.model = LoadedModel(Checkpoint(Path("model"), None, "r", 1), 1, 0.5)
    run.skipped += [Skipped(job.picture, "why", None) for job in run.plan.todo[:done]]
    run.on_device = tuple(run.plan.todo[done : done + 1])
    return run


def test_it_says_what_is_waited_for(watch: Watch) -> None:
    line = LiveLine(watch)
    assert line.text(80) == "Loading the model · 0:00"
    assert watch.run
    watch.run.downloading = lambda: Progress(42.0, "14.0 GB of 33.3 GB")
    assert line.text(80) == "Downloading the model · 14.0 GB of 33.3 GB · 0:00"


def test_it_says_how_far_the_run_is_and_what_is_on_the_device(watch: Watch) -> None:
    line = LiveLine(watch)
    run = captioning(watch, 0)
    assert line.text(120) == "0/12 · picture-1.png"
    captioning(watch, 3)
    done, skipped, rate, left, name = line.text(120).split(" · ")
    assert (done, skipped, name) == ("3/12", "3 skipped", "picture-4.png")
    assert rate.endswith("/min") and left.endswith(" left")
    run.on_device = tuple(run.plan.todo[3:6])
    assert line.text(120).endswith(" · picture-4.png and 2 more")


def test_in_a_narrow_terminal_it_leaves_out_what_is_wanted_least(watch: Watch) -> None:
    line = LiveLine(watch)
    captioning(watch, 3)
    assert line.text(15).split(" · ") == ["3/12", "0:00 left"]
    assert line.text(28).startswith("3/12 · 3 skipped · ")
    assert "picture" not in line.text(38)


def test_a_server_that_keeps_a_run_from_beginning_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = LiveLine(Watch())
    assert line.text(80) == ""
    now = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert line.text(80) == "Waiting for the Prefect server · 1:01"


def test_without_anything_to_do_or_when_it_is_over_there_is_none(watch: Watch) -> None:
    assert LiveLine(Watch()).text(80) == ""
    watch.over.set()
    assert LiveLine(watch).text(80) == ""


def test_long_times_have_hours() -> None:
    assert [clock(seconds) for seconds in (0.4, 250, 3850)] == ["0:00", "4:10", "1:04:10"]
