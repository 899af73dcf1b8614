"""One real run on everything that means harm: file names, a Hub with code and pickles, a model that
says terminal escapes and HTML. What is logged, recorded and written is looked at from outside."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bad_checkpoints import CODE, PICKLES, carrying_code, saying
from tests.conftest import CHECKPOINT, ROOT, draw_picture
from tests.hub_server import HubServer

pytestmark = pytest.mark.server

NO_CAPTIONS = {
    "captions.json",
    "summary.json",
    "provenance.jsonl",
    ".run.lock",
    "index.html",
    "gallery",
}
NAMES = [
    "-n.png",
    "--help.png",
    "a\nb.png",
    "tab\t return\r.png",
    "'single' \"double\" `back`.png",
    "100%s %d %(name)s {x} {0.__class__}.png",
    "\x1b[31mred \x1b]0;title\x07.png",
    "\x9b31mC1.png",
    "right to left \u202egnp.exe.png",
    "marks \u200e\u200f\u2066\u2069.png",
    "emoji 😀👩\u200d👩\u200d👧.png",
    "decomposed e\u0301.png",
    "$(touch pwned);&|<b>&amp;.png",
    "line\u2028separator.png",
    "ü" * 125 + "x.png",  # 255 bytes
]
SAYS = {
    " flowchart": " <script>alert(1)</script>",
    " left": " \x1b[2J\x1b]0;owned\x07",
    " top": "\x1b[2J\x1b]0;owned\x07",
    "-to": "\x9b31m\u202e",
    " of": " [x](javascript:alert(1)) %s {x}",
}
# every open for writing, new directory, link and new name, of Python's own and of its libraries
WATCH = """
import os, sys

log = os.open(os.environ["WATCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
places = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.truncate": 0,
          "os.chmod": 0, "os.utime": 0, "sqlite3.connect": 0}

def watch(event, arguments):
    if event == "open" and arguments[2] & writing:
        place = arguments[0]
    elif event in places:
        place = arguments[places[event]]
    else:
        return
    if not place:  # to SQLite a database that has no name, in TMPDIR
        return
    if isinstance(place, (str, bytes, os.PathLike)):
        os.write(log, os.fsencode(os.path.abspath(os.fspath(place))) + b"\\0")

sys.addaudithook(watch)
"""


@dataclass(frozen=True)
class Aftermath:
    """What a run left behind."""

    top: Path  # the folder that all of it was to stay in
    output: Path
    run: "subprocess.CompletedProcess[str]"
    written: list[Path]  # what was opened for writing, made or renamed, by the run and its server
    asked_of_the_hub: set[str]
    logs: list[str]
    names: list[str]  # of task runs
    messages: list[str]  # of states

    def entries(self) -> list[dict[str, str]]:
        """captions.json."""
        return list(json.loads((self.output / "captions.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    top = tmp_path_factory.mktemp("hostile").resolve()
    inside, output = top / "in \x1b[31m%s\n\u202e", top / "out \x1b[31m%s\n\u202e"
    home, temporary, work, hooks = (top / n for n in ("home", "tmp", "work", "hooks"))
    for folder in (inside, home, temporary, work, hooks):
        folder.mkdir()
    # without a GPU, MLX keeps the kernels that it has compiled there: half a minute's work
    kernels = Path(tempfile.gettempdir()) / "mlx"
    kernels.mkdir(exist_ok=True)
    (temporary / "mlx").symlink_to(kernels)
    for name in NAMES:
        draw_picture(top / "a.png").rename(inside / name)
    (hooks / "sitecustomize.py").write_text(WATCH)
    bad = saying(carrying_code(CHECKPOINT, top / "code", home / "sprung"), top / "bad", SAYS)
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "CAPTION_", "TORCH"))
    }
    with HubServer(bad, "someone/flowcharts") as hub:
        run = subprocess.run(
            [
                *(sys.executable, str(ROOT / "flows" / "caption_flow.py"), "--max-tokens=24"),
                *(f"--input-dir={inside}", f"--output-dir={output}"),
                "--repo-id=someone/flowcharts",
            ],
            cwd=work,
            env=kept
            | hub.environment(home / ".cache" / "huggingface")
            | {"HOME": str(home), "TMPDIR": str(temporary), "WATCH_LOG": str(top / "watched")}
            | {"PYTHONPATH": f"{hooks}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=250,
        )
        asked = {request.what for request in hub.requests}
    with closing(sqlite3.connect(home / ".prefect" / "prefect.db")) as database:
        logs, names, messages = (
            [str(row[0]) for row in database.execute(query)]
            for query in (
                "SELECT message FROM log",
                "SELECT name FROM task_run",
                "SELECT message FROM task_run_state UNION SELECT message FROM flow_run_state",
            )
        )
    written = [Path(line) for line in (top / "watched").read_text().split("\0")[:-1]]
    yield Aftermath(top, output, run, written, asked, logs, names, messages)


def test_every_picture_is_captioned(after: Aftermath) -> None:
    assert after.run.returncode == 0, after.run.stderr
    entries = after.entries()
    assert sorted(entry["image"] for entry in entries) == sorted(NAMES)
    files = {path.name for path in after.output.iterdir()} - NO_CAPTIONS
    assert len(files) == len(NAMES)
    own = [json.loads((after.output / file).read_text("utf-8")) for file in files]
    assert {entry["image"] for entry in own} == set(NAMES)


def test_what_the_model_said_is_in_the_files_as_it_was(after: Aftermath) -> None:
    captions = [entry["caption"] for entry in after.entries()]
    assert all(" <script>alert(1)</script>" in caption for caption in captions)
    assert all("\x1b[2J\x1b]0;owned\x07" in caption for caption in captions)
    assert all("\x9b31m\u202e" in caption for caption in captions)


def test_the_terminal_gets_whole_lines_without_escapes(after: Aftermath) -> None:
    stamped = re.compile(r"\d\d:\d\d:\d\d - (INFO|WARNING) - ")
    plain = (
        "Model files not found at ",
        "Fetching ",  # the Hub client's progress
        f"{len(NAMES)} captioned ",
        f"Wrote {len(NAMES)} caption files to ",
        "Starting a temporary Prefect server ",
    )
    for line in filter(None, after.run.stderr.split("\n")):
        assert line.isprintable(), repr(line)
        assert stamped.match(line) or line.startswith(plain), line
    assert "Processing right to left \\u202egnp.exe.png..." in after.run.stderr
    assert "Processing 100%s %d %(name)s {x} {0.__class__}.png..." in after.run.stderr
    assert "owned" not in after.run.stderr + after.run.stdout
    assert "<script>" not in after.run.stderr + after.run.stdout


def test_prefect_records_nothing_that_a_terminal_would_act_upon(after: Aftermath) -> None:
    assert "caption a\\nb.png" in after.names
    assert len([name for name in after.names if name.startswith("caption ")]) == len(NAMES)
    assert len(after.logs) > 2 * len(NAMES)
    for text in after.logs + after.names + after.messages:
        assert text.isprintable(), repr(text)
        # a caption stands in its task run's log, quoted, and nowhere else
        quoted = text in after.logs and re.search("“.*owned.*”", text)
        assert quoted or ("owned" not in text and "<script>" not in text), text


def test_files_can_be_shown_in_a_terminal(after: Aftermath) -> None:
    """JSON escapes the controls of ASCII by itself; C1 and what turns the direction are more."""
    thumbnails = set((after.output / "gallery" / "thumbnails").iterdir())
    assert thumbnails and {path.suffix for path in thumbnails} == {".jpg"}
    for path in {*filter(Path.is_file, after.output.rglob("*"))} - thumbnails:
        text = path.read_text("utf-8")
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", text), path


def test_code_and_pickles_are_neither_fetched_nor_run(after: Aftermath) -> None:
    assert "model.safetensors" in after.asked_of_the_hub
    assert after.asked_of_the_hub.isdisjoint(CODE + PICKLES)
    assert not list(after.top.rglob("sprung"))
    assert not list(after.top.rglob("pwned"))


def test_nothing_is_written_but_results_the_cache_and_prefects_home(after: Aftermath) -> None:
    home = after.top / "home"
    places = (
        *(after.output, home / ".prefect", home / ".cache" / "huggingface"),
        *(after.top / "tmp", Path("/dev/null")),
    )
    strange = {
        path
        for path in after.written
        if not any(path.is_relative_to(place) or path in place.parents for place in places)
    }
    assert strange == set()
    assert any(path.is_relative_to(after.output) for path in after.written)
    # and what no hook of Python's sees
    assert {path.name for path in home.iterdir()} == {".prefect", ".cache"}
    assert [path.name for path in (home / ".cache").iterdir()] == ["huggingface"]
    assert not list((after.top / "work").iterdir())
    left = {path.name.partition("_")[0] for path in (after.top / "tmp").iterdir()}
    # torch, where it is installed, makes an empty folder
    assert left <= {"mlx", "torchinductor"}
