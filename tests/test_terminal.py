"""`python flows/caption_flow.py` as a user runs it: what is printed, and with which exit code."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from captioner.output.folder import OutputFolder
from captioner.settings import Settings
from tests.conftest import ROOT, draw_picture
from tests.real_server import RealServer, real_server

pytestmark = pytest.mark.server
STAMP = r"\d\d:\d\d:\d\d - (INFO|WARNING|ERROR) - "


def command(settings: Settings, *more: str) -> list[str]:
    flags = [f"--{name}={getattr(settings, name.replace('-', '_'))}" for name in FLAGS]
    return [sys.executable, "flows/caption_flow.py", *flags, *more]


DONE = ("validate", "caption", "save")
FLAGS = ("input-dir", "output-dir", "model", "max-tokens")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect home of its own and no server: each run starts a temporary one."""
    home = tmp_path_factory.mktemp("prefect")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "CAPTION_"))}
    yield kept | {"PREFECT_HOME": str(home)}


def states(environment: dict[str, str]) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """The state and message of each flow run, newest last, and how many task runs the newest has
    in each state."""
    database = Path(environment["PREFECT_HOME"]) / "prefect.db"
    with closing(sqlite3.connect(database)) as connection:
        flows = connection.execute(
            "SELECT r.id, s.name, s.message FROM flow_run r "
            "JOIN flow_run_state s ON s.id = r.state_id ORDER BY r.created"
        ).fetchall()
        tasks = connection.execute(
            "SELECT state_name, count(*) FROM task_run WHERE flow_run_id = ? GROUP BY 1",
            (flows[-1][0],),
        ).fetchall()
    return [(name, message) for _, name, message in flows], dict(tasks)


def messages(lines: list[str]) -> list[str]:
    """The lines of a run, without their times and levels."""
    return [re.sub("^" + STAMP, "", line) for line in lines]


def test_a_run_reads_like_the_seed_and_a_server_that_is_started_afterwards_shows_it_whole(
    folders: Settings, environment: dict[str, str]
) -> None:
    for name in ("diagram1.png", "diagram2.jpg", "diagram10.jpeg"):
        draw_picture(folders.input_dir / name)
    (folders.input_dir / "diagram3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    run = subprocess.run(
        command(folders), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    begun, *lines = run.stderr.splitlines()
    assert begun.startswith("Starting a temporary Prefect server ")
    assert re.fullmatch(STAMP + re.escape(f"Output directory: {folders.output_dir}"), lines[0])
    assert re.fullmatch(STAMP + re.escape(f"Found 4 image(s) in {folders.input_dir}"), lines[1])
    assert lines[-1] == f"Wrote 3 caption files to {folders.output_dir}"
    said = messages(lines)
    assert [line for line in said if "Processing" in line] == [
        "[1/4] Processing diagram1.png...",
        "[2/4] Processing diagram2.jpg...",
        "[4/4] Processing diagram10.jpeg...",
    ]
    assert [line for line in said if "Saved" in line] == [
        "✓ Saved caption to diagram1.json",
        "✓ Saved caption to diagram2.json",
        "✓ Saved caption to diagram10.json",
    ]
    (skipped,) = [line for line in said if "Skipped" in line]
    assert skipped.startswith("[3/4] Skipped diagram3.png: ")
    # and besides those nothing but the model
    others = [line for line in said[2:-2] if not re.search("Processing|Saved|Skipped", line)]
    assert [line.split()[0] for line in others] == ["Loading", "This", "Model"]
    counts = r"3 captioned, 1 skipped in \d+\.\d s, \d+\.\d pictures a minute"
    assert re.fullmatch(counts, lines[-2])
    flows, tasks = states(environment)
    assert flows[-1] == ("Completed", "3 captioned, 1 skipped")
    assert tasks == {"Completed": 5 + 3 + 3 + 3 + 1, "Skipped": 1}

    with real_server(Path(environment["PREFECT_HOME"]), "--no-services") as server:
        (flow_run,) = ask(server, "/flow_runs/filter", sort="EXPECTED_START_TIME_DESC", limit=1)
        its_own = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
        task_runs = ask(server, "/task_runs/filter", **its_own)
        artifacts = ask(server, "/artifacts/filter", **its_own)
        logs = ask(server, "/logs/filter", logs={"flow_run_id": its_own["flow_runs"]["id"]})
    assert (flow_run["name"], flow_run["state_name"]) == ("in: 4 pictures", "Completed")
    once = ("check_input_dir", "scan_images", "check_captions", "check_model", "load_model")
    captioned = ("diagram1.png", "diagram2.jpg", "diagram10.jpeg")
    assert {task_run["name"]: task_run["state_name"] for task_run in task_runs} == {
        **dict.fromkeys((*once, "write_summary"), "Completed"),
        **{f"{do} {name}": "Completed" for name in captioned for do in DONE},
        "validate diagram3.png": "Skipped",
    }
    kinds = {artifact["type"]: artifact for artifact in artifacts}
    assert set(kinds) == {"progress", "table", "markdown"}
    assert kinds["progress"]["data"] == 100.0
    assert "data:image/jpeg" in kinds["markdown"]["data"]
    assert "✓ Saved caption to diagram1.json" in [line["message"] for line in logs]


def test_a_directory_that_is_missing_is_one_line_and_exit_code_2(
    folders: Settings, prefect_api: str
) -> None:
    settings = folders.model_copy(update={"input_dir": folders.input_dir / "nowhere"})
    environment = os.environ | {"PREFECT_API_URL": prefect_api}
    run = subprocess.run(
        command(settings), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 2
    server, line = run.stderr.splitlines()
    assert server.endswith(f" - INFO - Reporting to the Prefect server at {prefect_api}")
    assert re.fullmatch(STAMP + r".*nowhere does not exist; .*--input-dir\.", line)


def test_a_caption_that_fails_is_exit_code_1(folders: Settings, prefect_api: str) -> None:
    draw_picture(folders.input_dir / "a.png")
    # a place for a video, and no video: the model cannot take this prompt
    asked = command(folders, "--user-prompt=<|video_pad|>")
    environment = os.environ | {"PREFECT_API_URL": prefect_api}
    run = subprocess.run(
        asked, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert " - ERROR - No caption for a.png: MLX failed: " in run.stderr
    last = "1 failed; summary.json says why. Run again to try once more."
    assert run.stderr.splitlines()[-1] == last


def test_a_model_that_cannot_be_downloaded_is_told_in_the_terminal(
    folders: Settings, prefect_api: str, tmp_path: Path
) -> None:
    draw_picture(folders.input_dir / "a.png")
    environment = os.environ | {"PREFECT_API_URL": prefect_api, "HF_HUB_OFFLINE": "1"}
    asked = [*command(folders)[:4], "--repo-id=someone/model"]
    run = subprocess.run(
        asked,
        cwd=ROOT,
        env=environment | {"HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    (told,) = [
        line for line in run.stderr.splitlines() if "HF_HUB_OFFLINE is set: unset it" in line
    ]
    assert told == run.stderr.splitlines()[-1]


def test_a_second_run_into_the_same_folder_says_who_holds_it(
    folders: Settings, prefect_api: str
) -> None:
    draw_picture(folders.input_dir / "a.png")
    with OutputFolder(folders.output_dir):
        run = subprocess.run(
            command(folders),
            cwd=ROOT,
            env=os.environ | {"PREFECT_API_URL": prefect_api},
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert run.returncode == 2, run.stderr
    told = f"is in use by another run (process {os.getpid()} on "
    assert told in run.stderr.splitlines()[-1]
    assert run.stderr.count("is in use by another run") == 1


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGINT]])
def test_an_interrupt_keeps_what_is_finished(
    folders: Settings, environment: dict[str, str], numbers: list[signal.Signals]
) -> None:
    for index in range(1, 31):
        draw_picture(folders.input_dir / f"p{index}.png")
    with subprocess.Popen(
        command(folders), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 200
        while not (folders.output_dir / "p3.json").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for number in numbers:
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert " - ERROR - " not in errors
    summary = json.loads((folders.output_dir / "summary.json").read_bytes())
    assert summary["state"] == "interrupted"
    captions = json.loads((folders.output_dir / "captions.json").read_bytes())
    assert 3 <= (done := summary["counts"]["captioned"]) == len(captions) < 30
    assert errors.splitlines()[-1] == f"Interrupted: {done} captioned, {30 - done} to go"
    flows, tasks = states(environment)
    assert flows[-1][0] == "Cancelled"
    assert not set(tasks) & {"Pending", "Running"}


def ask(server: RealServer, path: str, **query: Any) -> list[dict[str, Any]]:
    request = Request(
        server.api_url + path,
        json.dumps(query).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found
