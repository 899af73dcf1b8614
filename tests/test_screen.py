"""What is seen of a run in a terminal of its own, and what of a quiet one: the real command."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captioner.settings import Settings
from tests.conftest import ROOT, draw_picture
from tests.pseudo_terminal import Terminal, seen_in_terminal

pytestmark = pytest.mark.server

STAMP = r"\d\d:\d\d:\d\d - (INFO|WARNING) - "
HOSTILE = "\x1b[31m[red]\x07 " + "long " * 20 + ".png"


@pytest.fixture
def asked(folders: Settings, tiny_checkpoint: Path, prefect_api: str) -> list[str]:
    """The command, over five pictures of which two cannot be read."""
    for name in ("a.png", "c.png", HOSTILE):
        draw_picture(folders.input_dir / name)
    for name in ("b.png", "d.png"):
        (folders.input_dir / name).write_bytes(b"no picture")
    given = {
        "input-dir": folders.input_dir, "output-dir": folders.output_dir, "model": tiny_checkpoint,
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in given.items()]
    return [sys.executable, "flows/caption_flow.py", *flags]


def environment(prefect_api: str, **more: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if n not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return kept | {"PREFECT_API_URL": prefect_api, "TERM": "xterm-256color"} | more


def live_lines(terminal: Terminal) -> list[str]:
    """What stood in the live line: all that was erased again."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in re.findall(
        r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*((?:\x1b\[[0-9;]*m|[^\r\n\x1b])+)(?=\r\x1b)", terminal.raw
    )]  # fmt: skip


DOWNLOADING = """
import time
from pathlib import Path

from captioner.plan import Plan
from captioner.records import Job, Picture, Progress
from captioner.run import Run, Watch
from captioner.settings import DEFAULTS
from flows.hosting.screen import SCREEN

watch = Watch()
watch.run = Run(DEFAULTS)
picture = Picture("a.png", Path())
watch.run.plan = Plan([picture], {}, todo=[Job(picture, "a.json", 1, 1)])
watch.run.downloading = lambda: Progress(42.0, "14.0 GB of 33.3 GB")
SCREEN.open(quiet=False, log_file=None)
with SCREEN.watching(watch):
    time.sleep(0.6)
    SCREEN.remark("A line of the log")
"""


@pytest.mark.parametrize("kind", ["xterm-256color", "dumb", ""])
def test_a_download_is_shown_in_the_live_line_where_the_terminal_can_erase_one(kind: str) -> None:
    given = environment("", TERM=kind, PYTHONPATH=str(ROOT))
    code, terminal = seen_in_terminal([sys.executable, "-c", DOWNLOADING], ROOT, given, 80)
    assert code == 0, terminal.rows
    assert [row for row in terminal.rows if row] == ["A line of the log"]
    if kind.startswith("xterm"):
        said = "Downloading the model · 14.0 GB of 33.3 GB · 0:0"
        assert any(line.startswith(said) for line in live_lines(terminal))
    else:
        assert terminal.raw == "A line of the log\r\n"


@pytest.mark.parametrize(("columns", "no_color"), [(120, ""), (40, "1")])
def test_a_live_line_stands_under_the_log_and_is_gone_at_the_end(
    asked: list[str], prefect_api: str, folders: Settings, columns: int, no_color: str
) -> None:
    given = environment(prefect_api, NO_COLOR=no_color)
    code, terminal = seen_in_terminal([*asked, "--max-tokens=3"], ROOT, given, columns)
    shown = "\n".join(terminal.rows)
    assert code == 0, shown
    assert terminal.coloured is not bool(no_color)
    assert "\x07" not in terminal.raw and "\x1b[31m[red]" not in terminal.raw
    # the log is whole: every line stands by itself, in its order, and nothing else is left over
    lines = [row for row in terminal.rows if row]
    log = [line for line in lines if re.match(STAMP, line)]
    assert lines[: len(log)] == log
    assert len([line for line in log if " Processing " in line]) == 3
    assert [line.split(" - ")[2][:15] for line in log if "Skipped" in line] == [
        "[3/5] Skipped b", "[5/5] Skipped d",
    ]  # fmt: skip
    table, last = lines[len(log) : -2], lines[-2:]
    assert [row.split()[0] for row in table] == [
        "captioned", "up", "skipped", "flagged", "failed", "seconds", "pictures",
    ]  # fmt: skip
    assert [row.split()[-1] for row in table[:5]] == ["3", "0", "2", "3", "0"]
    assert last == [
        "3 cut at 3 tokens: --retry-flagged --max-tokens 12",
        f"Wrote 3 caption files to {folders.output_dir}",
    ]
    live = live_lines(terminal)
    assert any(line.startswith("Loading the model · 0:") for line in live), live
    assert any(re.match(r"\d/5 · 2 skipped", line) for line in live), live
    assert all(len(line) <= columns for line in live)


def test_a_quiet_run_tells_problems_and_the_end_and_its_log_file_everything(
    asked: list[str], prefect_api: str, folders: Settings, tmp_path: Path
) -> None:
    # somebody else's idea of where to report to, as an archive of pictures may bring one
    (tmp_path / ".env").write_text(f"PREFECT_API_URL={prefect_api}\n")
    given = {n: v for n, v in environment(prefect_api).items() if n != "PREFECT_API_URL"}
    command = [sys.executable, str(ROOT / asked[1]), *asked[2:], "--quiet", "--log-file=~/a.log"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=given | {"HOME": str(tmp_path), "CAPTION_MAX_TOKENS": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 200
        while not (folders.output_dir / "summary.json").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)  # there is nothing left to interrupt
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), errors
    lines = errors.splitlines()
    server = f"WARNING - Reporting to the Prefect server at {prefect_api}, as {tmp_path}/.env says"
    assert lines[0].endswith(server)
    assert [re.sub(STAMP, "", line)[:15] for line in lines[1:3]] == [
        "[3/5] Skipped b", "[5/5] Skipped d",
    ]  # fmt: skip
    flagged = [line for line in lines[3:-3] if line.endswith(" is flagged: truncated")]
    assert len(flagged) == 3 and lines[3:-3] == flagged
    assert re.match(r"3 captioned \(3 flagged\), 2 skipped in ", lines[-3])
    assert lines[-1] == f"Wrote 3 caption files to {folders.output_dir}"

    log = (tmp_path / "a.log").read_text().splitlines()
    day = r"\d{4}-\d\d-\d\d "
    assert [re.sub(day, "", line) for line in log if re.sub(day, "", line) in lines] == lines
    assert len([line for line in log if re.match(day + STAMP + r"\[\d/5\] Processing", line)]) == 3
