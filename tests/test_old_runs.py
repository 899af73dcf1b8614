"""Row 17: Prefect's database does not grow for ever. Real runs on real servers, made old in it."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from captioner.settings import Settings
from flows.hosting.command_line import CommandLine, parse_command_line
from flows.hosting.old_runs import remove_old_runs
from tests.conftest import ROOT, FlowRun, draw_picture

TABLES = {  # how many rows of a run are in each
    "flow_run": "SELECT count(*) FROM flow_run WHERE id = ?",
    "flow_run_state": "SELECT count(*) FROM flow_run_state WHERE flow_run_id = ?",
    "task_run": "SELECT count(*) FROM task_run WHERE flow_run_id = ?",
    "log": "SELECT count(*) FROM log WHERE flow_run_id = ?",
    "artifact": "SELECT count(*) FROM artifact WHERE flow_run_id = ?",
}


def rows(home: Path, run: UUID) -> dict[str, int]:
    with closing(sqlite3.connect(home / "prefect.db", timeout=30)) as database:
        return {
            table: int(database.execute(query, (str(run),)).fetchone()[0])
            for table, query in TABLES.items()
        }


def age(home: Path, run: UUID, days: int, ended: bool = True) -> None:
    """Let the run have been that long ago."""
    when = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(home / "prefect.db", timeout=30)) as database, database:
        update = "UPDATE flow_run SET start_time = ?, end_time = ? WHERE id = ?"
        assert database.execute(update, (when, when if ended else None, str(run))).rowcount == 1


@pytest.mark.model
def test_row_17_old_runs_are_removed_with_all_that_is_of_them(
    folders: Settings, tiny_checkpoint: Path, run_flow: Callable[[Settings], FlowRun]
) -> None:
    draw_picture(folders.input_dir / "a.png")
    settings = folders.model_copy(update={"model": tiny_checkpoint, "max_tokens": 4})
    home = Path(os.environ["PREFECT_HOME"])
    states = [run_flow(settings).state for _ in range(4)]
    old, killed, going, new = (state.state_details.flow_run_id for state in states)
    before = rows(home, old)
    assert all(before.values())
    age(home, old, 100)
    age(home, killed, 200, ended=False)
    age(home, going, 100, ended=False)

    # a server that stays, for which somebody asks; and first a copy of it, for one run
    copy = folders.input_dir.parent / "home"
    copy.mkdir()
    with (
        closing(sqlite3.connect(home / "prefect.db")) as source,
        closing(sqlite3.connect(copy / "prefect.db")) as target,
    ):
        source.backup(target)
    (folders.input_dir / "a.png").unlink()  # nothing to do: all that takes time is the server
    command = [sys.executable, "flows/caption_flow.py", f"--input-dir={folders.input_dir}"]
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    run = subprocess.run(
        [*command, f"--output-dir={folders.output_dir}"],
        cwd=ROOT,
        env=environment | {"PREFECT_HOME": str(copy)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "Removed 2 run(s) older than 90 days from Prefect's database." in run.stdout + run.stderr
    assert remove_old_runs(timedelta(days=90)) == 2
    assert remove_old_runs(timedelta(days=90)) == 0
    for place in (copy, home):
        assert not any({**rows(place, old), **rows(place, killed)}.values())
        assert all(rows(place, going).values()) and all(rows(place, new).values())


def test_row_17_a_server_of_somebody_elses_keeps_its_runs_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kept(*flags: str, temporary: bool) -> timedelta | None:
        monkeypatch.setattr(sys, "argv", ["caption_flow.py", *flags])
        return parse_command_line(CommandLine).runs_kept_for(temporary)

    assert kept(temporary=False) is None
    assert kept(temporary=True) == timedelta(days=90)
    for temporary in (False, True):
        assert kept("--keep-runs", "7d", temporary=temporary) == timedelta(days=7)
    for wrong in ("7", "0d", "d", "-1d", "7h", "1000000d", ""):
        with pytest.raises(SystemExit):
            kept(f"--keep-runs={wrong}", temporary=True)
        assert "--keep-runs must be a number of days such as 90d." in capsys.readouterr().err
