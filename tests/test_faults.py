"""Faults made for real: kills, signals, full and read-only disks, a server that goes away."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort

from captioner.output.folder import PROVENANCE
from captioner.settings import Settings
from captioner.text import counted
from tests.conftest import CHECKPOINT, ROOT, draw_picture, hears_hangups, mounted
from tests.gate import Gate
from tests.killing import PROMPTS, Trial, compiled

pytestmark = pytest.mark.server

Environment = dict[str, str]


@pytest.fixture
def pictures(folders: Settings, tiny_checkpoint: Path) -> Settings:
    for number in range(1, 13):
        draw_picture(folders.input_dir / f"p{number}.png", f"P{number}", (96, 64))
    return folders.model_copy(update={"max_tokens": 12, "model": tiny_checkpoint})


@contextmanager
def running(
    settings: Settings, environment: Environment, *model: str
) -> "Iterator[subprocess.Popen[str]]":
    """The product in a process of its own, with the settings' model when no other is named."""
    command = [sys.executable, "flows/caption_flow.py", "--input-dir", str(settings.input_dir)]
    command += ["--output-dir", str(settings.output_dir)]
    command += model or ["--model", str(settings.model)]
    command += ["--max-tokens", str(settings.max_tokens)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_hangups,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 200
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def with_server(prefect_api: str) -> Environment:
    return os.environ | {"PREFECT_API_URL": prefect_api}


def test_runs_that_are_killed_or_whose_system_calls_fail_lose_nothing_and_repeat_nothing(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m tests.killing --minutes 60 --faults` does it at length."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    can_fail = sys.platform == "linux" and shutil.which("cc")
    assert can_fail or "CI" not in os.environ, "needs gcc and libc6-dev"
    trial = Trial(tmp_path, 12, 1, CHECKPOINT, compiled(tmp_path) if can_fail else None)
    for prompt in PROMPTS:
        trial.caption(prompt, attempts=1, kill=0.5)
    assert trial.figures.captions == 24
    assert trial.figures.looks > 0
    assert trial.figures.faults.total() > 0 or not can_fail, trial.figures


def test_a_run_that_is_killed_leaves_no_server(pictures: Settings, tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    with running(pictures, environment | {"PREFECT_HOME": str(home)}) as process:
        wait_for(pictures.output_dir / "p2.json", process)
        address = re.search(r"127\.0\.0\.1:(\d+)/api", (home / "temporary-server.log").read_text())
        assert address
        port = int(address[1])
        assert answers(port)
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 20
    while answers(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_second_interrupt_ends_the_run_at_once(
    pictures: Settings, with_server: Environment
) -> None:
    with running(pictures, with_server) as process:
        wait_for(pictures.output_dir / "p2.json", process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # two at the same moment count as one
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "Ended at once. The captions saved so far are safe."
    for path in pictures.output_dir.glob("*.json"):
        json.loads(path.read_bytes())


def what_is_safe(settings: Settings) -> int:
    """The number of caption files; asserts that each is whole and recorded."""
    files = [path for path in settings.output_dir.glob("p*.json")]
    recorded = {
        json.loads(line)["caption_file"]
        for line in (settings.output_dir / PROVENANCE).read_text("utf-8").splitlines()
    }
    assert {path.name for path in files} <= recorded
    for path in files:
        assert json.loads(path.read_bytes())["caption"]
    assert not list(settings.output_dir.glob("*.tmp"))
    return len(files)


def test_a_disk_that_fills_up_ends_the_run_with_one_sentence(
    pictures: Settings, with_server: Environment
) -> None:
    pictures.output_dir.mkdir()
    # some captions, a page each, and as many in provenance.jsonl
    with mounted(pictures.output_dir, "40k"):
        with running(pictures, with_server) as process:
            _, errors = process.communicate(timeout=200)
        assert process.returncode == 1
        assert "Traceback" not in errors
        (line,) = [line for line in errors.splitlines() if " - ERROR - " in line]
        assert "cannot be written: No space left on device. The captions saved so far" in line
        safe = what_is_safe(pictures)
        assert 0 < safe < 12
        before = {path: path.stat() for path in pictures.output_dir.glob("p*.json")}
        subprocess.run(
            ["mount", "-o", "remount,size=4m", pictures.output_dir], check=True
        )  # mend that and run again
        with running(pictures, with_server) as process:
            _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        assert f"{counted(safe, 'caption is', 'captions are')} up to date" in errors
        assert what_is_safe(pictures) == 12
        assert {path: path.stat() for path in before} == before


def test_a_temporary_folder_that_is_full_is_one_sentence(
    pictures: Settings, with_server: Environment, tmp_path: Path
) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    with mounted(temporary, "16k"):
        (temporary / "everything").write_bytes(bytes(16 << 10))
        with running(pictures, with_server | {"TMPDIR": str(temporary)}) as process:
            _, errors = process.communicate(timeout=200)
    assert process.returncode == 2, errors
    assert errors.splitlines()[-1].endswith(
        f" - ERROR - MLX cannot compile in the temporary folder {temporary}, since it is full: "
        "free space there, or name another folder with TMPDIR."
    )
    assert "Traceback" not in errors and "g++" not in errors
    assert not (pictures.output_dir / PROVENANCE).exists()  # nothing is noted of a picture


def test_several_captions_that_cannot_be_saved_are_one_sentence(
    pictures: Settings, with_server: Environment
) -> None:
    at_once = ("--model", str(pictures.model), "--batch-size", "12")  # and so are their ends
    with running(pictures, with_server, *at_once) as process:
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    for path in pictures.output_dir.glob("p*.json"):
        path.unlink()
        (path / "in the way").mkdir(parents=True)
    with running(pictures, with_server, *at_once, "--overwrite") as process:
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert errors.count("cannot be written: Is a directory.") == 1, errors
    assert " - ERROR - " in errors.splitlines()[-1]
    assert errors.count(" - ERROR - ") == 1


def test_an_output_folder_that_becomes_read_only_ends_the_run_with_one_sentence(
    pictures: Settings, with_server: Environment
) -> None:
    pictures.output_dir.mkdir()
    with mounted(pictures.output_dir, "4m"):
        if shutil.which("chattr") is None:
            pytest.skip("needs chattr (Debian: apt-get install e2fsprogs)")
        with running(pictures, with_server) as process:
            wait_for(pictures.output_dir / "p2.json", process)
            # not a remount: the run holds its lock file open for writing
            subprocess.run(["chattr", "+i", pictures.output_dir], check=True)
            _, errors = process.communicate(timeout=200)
        assert process.returncode == 1
        assert "Traceback" not in errors
        (line,) = [line for line in errors.splitlines() if " - ERROR - " in line]
        assert "cannot be written: " in line
        assert what_is_safe(pictures) >= 2


def test_without_its_server_a_run_makes_all_its_captions(
    pictures: Settings, prefect_api: str
) -> None:
    with Gate(urlsplit(prefect_api).port or 0, delay=0.8) as gate:
        impatient = behind(gate) | {"PREFECT_CLIENT_MAX_RETRIES": "1"}  # two seconds, not a minute
        with running(pictures, impatient) as process:
            wait_for(pictures.output_dir / "p2.json", process)
            gate.delay = 0.0
            gate.shut()
            _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        lines = errors.splitlines()
        assert lines[-1].endswith(f":{gate.port}/api does not know how this run ended."), errors
        # it is slow at first, and what is waited for is said before the first line of the run
        waiting = f":{gate.port}/api is slow: the run begins when it has answered about ten times."
        assert [line for line in lines if "Output directory" in line or line.endswith(waiting)] == [
            f"The Prefect server at http://127.0.0.1{waiting}",
            *[line for line in lines if "Output directory" in line],
        ]
        assert len([line for line in lines if "does not hear of every task run" in line]) <= 1
        assert not any(" - ERROR - " in line for line in lines)
        assert what_is_safe(pictures) == 12
        assert len(json.loads((pictures.output_dir / "captions.json").read_bytes())) == 12

        again = pictures.model_copy(update={"output_dir": pictures.output_dir.parent / "again"})
        with running(again, impatient) as process:
            _, errors = process.communicate(timeout=200)
        assert process.returncode == 2
        assert errors.splitlines()[-1].endswith(
            f":{gate.port}/api does not answer: start it, or name another."
        )
        assert "Traceback" not in errors


def test_a_server_that_comes_back_hears_how_the_run_ended(
    pictures: Settings, prefect_api: str
) -> None:
    with (
        Gate(urlsplit(prefect_api).port or 0) as gate,
        running(pictures, behind(gate)) as process,
    ):
        wait_for(pictures.output_dir / "p2.json", process)
        gate.shut()
        wait_for(pictures.output_dir / "p6.json", process)
        gate.open()
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    folder = f"{pictures.input_dir.name}: 12 pictures"
    with get_client(sync_client=True) as client:
        newest = FlowRunSort.EXPECTED_START_TIME_DESC
        run = client.read_flow_runs(sort=newest, limit=1)[0]
    assert run.name == folder
    assert run.state is not None and run.state.is_completed()
    assert run.state.message == "12 captioned"
    assert what_is_safe(pictures) == 12


def behind(gate: Gate) -> Environment:
    return os.environ | {"PREFECT_API_URL": f"http://127.0.0.1:{gate.port}/api"}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_download_can_be_interrupted(
    pictures: Settings, prefect_api: str, tmp_path: Path, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:  # takes calls, and never answers
        environment = os.environ | {
            "PREFECT_API_URL": prefect_api,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}",
        }
        with running(pictures, environment, "--repo-id", "someone/model") as process:
            call, _ = hub.accept()
            with call:
                process.send_signal(number)
                _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "Interrupted: before the first caption, 12 to go"
