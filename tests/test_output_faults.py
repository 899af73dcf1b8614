"""The output folder as the hostile or failing side: what the command says, and leaves alone.

`python -m tests.fuzz --folders 600` puts much more in the place of our own files.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from captioner.settings import Settings
from tests.conftest import ROOT, draw_picture

pytestmark = pytest.mark.server


class Command:
    """The product in a process of its own."""

    def __init__(self, settings: Settings, prefect_api: str) -> None:
        self.settings = settings
        self._environment = os.environ | {"PREFECT_API_URL": prefect_api}

    def run(self, *flags: str, when: Callable[[], object] | None = None) -> tuple[int, list[str]]:
        """Its exit code, and what it says; `when` is called when two pictures are captioned."""
        out = self.settings.output_dir
        command = [sys.executable, "flows/caption_flow.py", f"--model={self.settings.model}"]
        command += [f"--input-dir={self.settings.input_dir}", f"--output-dir={out}", *flags]
        with subprocess.Popen(
            command, cwd=ROOT, env=self._environment, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                if when:
                    deadline = time.monotonic() + 100
                    while not (out / "p2.json").exists():
                        assert process.poll() is None and time.monotonic() < deadline
                        time.sleep(0.005)
                    when()
                _, said = process.communicate(timeout=120)
            finally:
                process.kill()
        assert "Traceback" not in said
        return process.returncode, said.splitlines()


@pytest.fixture
def command(folders: Settings, tiny_checkpoint: Path, prefect_api: str) -> Command:
    for number in range(1, 41):
        draw_picture(folders.input_dir / f"p{number}.png", f"P{number}", (96, 64))
    return Command(folders.model_copy(update={"model": tiny_checkpoint}), prefect_api)


def test_row_1_nothing_is_written_or_cut_through_a_link(command: Command, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("what somebody\nneeds")
    out = command.settings.output_dir
    out.mkdir()
    for file in ("provenance.jsonl", ".run.lock"):
        (out / file).symlink_to(victim)
    for file in (".run.lock", "provenance.jsonl"):
        code, said = command.run()
        assert code == 2
        assert [line for line in said if f"{out / file} cannot be " in line and "a link: " in line]
        assert victim.read_text() == "what somebody\nneeds"
        (out / file).unlink()


def test_rows_6_7_and_9_what_is_no_caption_of_its_picture_is_said_and_left_out(
    command: Command,
) -> None:
    inside, out = command.settings.input_dir, command.settings.output_dir
    for number in range(9, 41):
        (inside / f"p{number}.png").unlink()
    assert command.run()[0] == 0
    for name in ("p1.json", "p2.json", "p3.json", "p4.json", "p5.json"):
        (out / name).unlink()
    (out / "p1.json").write_text('{\n  "image": "p1.png",\n  "caption": "What I\nsee."\n}\n')
    (out / "p2.json").touch()
    os.mkfifo(out / "p3.json")
    (out / "p4.json").mkdir()
    (out / "p5.json").symlink_to("/dev/zero")
    (inside / "p6.png").write_bytes(b"damaged")

    code, said = command.run()

    assert code == 0
    for file, why in {
        "p1": "it is no JSON from line 3 on",
        "p3": "it is a FIFO",
        "p4": "it is a directory",
        "p5": "it is a link",
    }.items():
        sentence = (
            f"WARNING - {file}.json is no caption file ({why}): mend it, or remove it to have "
            f"{file}.png captioned again"
        )
        assert [line for line in said if line.endswith(sentence)], said
    assert any(line.endswith("1 to caption again (caption missing): p2.png") for line in said)
    sentence = "WARNING - Not in captions.json, since another picture is there now: p6.png"
    assert any(line.endswith(sentence) for line in said), said
    entries = json.loads((out / "captions.json").read_bytes())
    assert [entry["image"] for entry in entries] == ["p2.png", "p7.png", "p8.png"]
    summary = json.loads((out / "summary.json").read_bytes())
    assert [skipped["image"] for skipped in summary["skipped"]] == ["p6.png"]
    assert [u["caption_file"] for u in summary["unreadable"]] == [
        "p1.json",
        "p3.json",
        "p4.json",
        "p5.json",
    ]
    assert "What I\nsee." in (out / "p1.json").read_text()


def test_row_3_an_input_folder_that_goes_away_ends_the_run(command: Command) -> None:
    inside = command.settings.input_dir

    def unmount() -> None:
        inside.rename(inside.with_name("elsewhere"))
        inside.mkdir()  # an empty one is what is left where a volume was mounted

    code, said = command.run(when=unmount)
    assert code == 1
    sentence = f"Input directory {inside} has gone away ("
    assert any(sentence in line for line in said), said
    assert not any("Skipped" in line for line in said)
    results = {json.loads(line)["result"] for line in lines(command)}
    assert results == {"captioned"}
    # what is finished is saved
    assert len(list(command.settings.output_dir.glob("p*.json"))) == len(lines(command))


def test_row_11_an_output_folder_that_is_replaced_ends_the_run(command: Command) -> None:
    out = command.settings.output_dir
    moved = out.with_name("moved")

    def replace() -> None:
        out.rename(moved)
        out.mkdir()

    code, said = command.run(when=replace)
    assert code == 1
    sentence = f"Output directory {out} is not the one that this run began with"
    assert any(sentence in line for line in said), said
    assert list(out.iterdir()) == []
    assert (moved / "p2.json").exists()


def lines(command: Command) -> list[str]:
    return (command.settings.output_dir / "provenance.jsonl").read_text("utf-8").splitlines()
