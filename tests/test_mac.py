"""What only a Mac does, as far as it can be seen elsewhere: on a stand-in (`tests/on_a_mac`)."""

import errno
import json
import os
import plistlib
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from captioner import macos
from captioner.checkpoint.memory import check_fits, memory_bytes
from captioner.device.model import usable_memory_bytes
from captioner.errors import CheckpointError
from captioner.settings import Settings
from tests.conftest import ROOT, draw_picture

GIB = 1 << 30
PLISTS = sorted((ROOT / "docs" / "launchd").glob("*.plist"))
CAFFEINATE = '#!/bin/sh\necho "$$ $*" >> "$MAC_AWAKE"\nexec sleep 600\n'


@pytest.fixture
def mac(tmp_path: Path) -> dict[str, str]:
    """The environment of a process on a Mac, whose `caffeinate` notes what it was called with."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "caffeinate").write_text(CAFFEINATE)
    (tools / "caffeinate").chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "CAPTION_"))}
    return kept | {
        "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "on_a_mac"), str(ROOT)]),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "MAC_AWAKE": str(tmp_path / "awake"),
        "MAC_FLUSHES": str(tmp_path / "flushes"),
        "MAC_VERSION": "15.3",
    }


def on_a_mac(mac: dict[str, str], code: str) -> str:
    """What the code prints on a Mac."""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=mac, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.model
def test_a_run_on_a_mac(
    folders: Settings,
    tiny_checkpoint: Path,
    mac: dict[str, str],
    prefect_api: str,
    tmp_path: Path,
) -> None:
    for name in ("a.png", "b.png", "cloud.png"):
        draw_picture(folders.input_dir / name)
    command = [
        *(sys.executable, "flows/caption_flow.py", f"--model={tiny_checkpoint}"),
        *(f"--input-dir={folders.input_dir}", f"--output-dir={folders.output_dir}"),
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=mac
        | {
            "MAC_VERSION": "14.7.1",
            "MAC_EVICTED": "cloud.png",
            "PREFECT_API_URL": prefect_api,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, errors = process.communicate()

    # awake, and no longer than the run
    (called,) = (tmp_path / "awake").read_text().splitlines()
    keeper, *flags = called.split()
    assert flags == ["-i", "-m", "-w", str(process.pid)]
    assert not is_running(int(keeper))
    # captioned without torch and torchvision
    captions = json.loads((folders.output_dir / "captions.json").read_text())
    assert [caption["image"] for caption in captions] == ["a.png", "b.png"]
    # said before the model is loaded; and what could not be fetched is no fact about the file
    cloud, loading = errors.index("1 of the 3 to caption are in iCloud"), errors.index("Loading ")
    assert cloud < loading
    assert "macOS 14.7.1 cannot keep a model wired in memory, which macOS 15 can" in errors
    assert "cloud.png: cannot be read: its contents are in iCloud and may not be fetched" in errors
    assert process.returncode == 1
    assert "cloud.png" not in (folders.output_dir / "provenance.jsonl").read_text()
    # each line and each file is on the disk itself
    flushes = (tmp_path / "flushes").read_text().splitlines()
    assert flushes.count("provenance.jsonl") == 2
    # two caption files, captions.json and summary.json, and the four files of the gallery
    assert len(flushes) == 2 + 2 + 2 + 4


EVICTED = """
from pathlib import Path
from captioner.errors import InputError
from captioner.pictures.evicted import evicted
from captioner.records import Job, Picture
names = {names}
jobs = [Job(Picture(name, Path({folder!r})), "", 1, 1) for name in names]
try:
    print(*evicted(jobs))
except InputError as error:
    print(error)
"""


def test_a_run_that_could_fetch_none_of_its_pictures_loads_no_model(
    mac: dict[str, str], tmp_path: Path
) -> None:
    draw_picture(tmp_path / "here.png")
    draw_picture(tmp_path / "cloud.png")
    mac = mac | {"MAC_EVICTED": "cloud.png"}
    both = EVICTED.format(names=["here.png", "cloud.png"], folder=str(tmp_path))
    alone = EVICTED.format(names=["cloud.png"], folder=str(tmp_path))
    for environment in (mac, mac | {"MAC_MAY_NOT_FETCH": "1"}):
        assert on_a_mac(environment, both) == "cloud.png\n"
    assert on_a_mac(mac, alone) == "cloud.png\n"
    assert on_a_mac(mac | {"MAC_MAY_NOT_FETCH": "1"}, alone) == (
        "All pictures to caption (1) are in iCloud and not on this Mac, and this process may not "
        "fetch them: choose Download Now in Finder, or set MaterializeDatalessFiles as "
        "docs/mac.md says.\n"
    )
    assert macos.may_fetch()  # here there is no such policy


def test_a_mac_may_sleep_when_it_is_told_so_and_other_machines_always(
    mac: dict[str, str], tmp_path: Path
) -> None:
    on_a_mac(mac, "from captioner import macos\nwith macos.kept_awake(False): pass")
    with macos.kept_awake(True):
        pass
    assert not (tmp_path / "awake").exists()


def test_a_mac_without_caffeinate_runs_all_the_same(mac: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import logging, sys; logging.basicConfig(stream=sys.stdout, format='%(message)s')\n"
        "from captioner import macos\nwith macos.kept_awake(True): print('inside')"
    )
    said = on_a_mac(mac | {"PATH": str(tmp_path)}, code)
    sentence = "The Mac may fall asleep: caffeinate cannot be run (No such file or directory)"
    assert said.splitlines() == [sentence, "inside"]


@pytest.mark.parametrize(
    ("number", "on_the_mac"),
    [
        (errno.EPERM, "allow it in System Settings → Privacy & Security → Files and Folders"),
        (errno.EDEADLK, "Download Now in Finder, or set MaterializeDatalessFiles"),
        (errno.EACCES, ""),
    ],
)
def test_what_macos_refuses_for_a_reason_of_its_own(
    mac: dict[str, str], number: int, on_the_mac: str
) -> None:
    said = on_a_mac(
        mac,
        "from captioner import macos\n"
        f"import os; print(macos.why_refused(OSError({number}, os.strerror({number}))))",
    )
    assert on_the_mac in said
    here = macos.why_refused(OSError(number, os.strerror(number)))
    assert here == os.strerror(number)
    assert (here == said.strip()) == (not on_the_mac)


@pytest.mark.parametrize("version", ["14.7.1", "15.0", "26.1"])
def test_macos_wires_memory_from_15_on(mac: dict[str, str], version: str) -> None:
    code = "from captioner import macos; print(macos.wires_no_memory())"
    said = on_a_mac(mac | {"MAC_VERSION": version}, code).strip()
    assert said == (version if version.startswith("14") else "None")
    assert macos.wires_no_memory() is None


# Metal's limit, as people have read it off: exo-explore/exo#1672 for 16 GiB, antirez/ds4#893 for
# 128 GiB, there also with iogpu.wired_limit_mb at 114688
@pytest.mark.parametrize(
    ("memory", "usable", "fits"),
    [
        (16 * GIB, int(10.67 * GIB), 11_000_000_000),
        (32 * GIB, int(21.33 * GIB), 22_000_000_000),
        (128 * GIB, int(107.52 * GIB), 115_000_000_000),
        (128 * GIB, 112 * GIB, 120_000_000_000),
    ],
)
def test_a_model_has_to_fit_into_what_metal_allows(
    memory: int, usable: int, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 16_384 if "SIZE" in name else memory // 16_384)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": usable})
    monkeypatch.setattr(sys, "platform", "darwin")
    assert (memory_bytes(), usable_memory_bytes()) == (memory, usable)
    check_fits(fits, "owner/model", usable_memory_bytes())
    with pytest.raises(CheckpointError) as refused:
        check_fits(usable + 1, "owner/model", usable_memory_bytes())
    assert (
        f"this machine has {memory / 1e9:.1f} GB of memory, of which its GPU may use "
        f"{usable / 1e9:.1f} GB (docs/mac.md says how to raise that). Try a smaller model: "
    ) in str(refused.value)


def test_on_an_nvidia_gpu_a_model_may_take_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "device_info", lambda: {"total_memory": 24 * GIB})
    assert usable_memory_bytes() == 24 * GIB
    with pytest.raises(CheckpointError, match=r"alone, and this machine's GPU has 25\.8 GB\. Try"):
        check_fits(25 * GIB, "owner/model", usable_memory_bytes())


def test_where_mlx_knows_no_limit_all_of_the_memory_may_be_used() -> None:
    assert usable_memory_bytes() == memory_bytes()


@pytest.mark.parametrize("path", PLISTS, ids=lambda path: path.stem)
def test_a_property_list_is_whole_and_keeps_its_command_running(path: Path) -> None:
    text = path.read_text()
    for name, value in {"PROJECT": "/p", "LOGS": "/l", "HUB": "/h"}.items():
        text = text.replace(name, value)
    agent = plistlib.loads(text.encode())
    assert agent["Label"] == path.stem
    assert agent["RunAtLoad"] is agent["KeepAlive"] is True
    assert agent["ProcessType"] == "Interactive"
    assert agent["ProgramArguments"][0] == "/p/.venv/bin/prefect"
    assert agent["StandardOutPath"] == agent["StandardErrorPath"]
    assert agent["StandardOutPath"].startswith("/l/")
    assert all(isinstance(value, str) for value in agent["EnvironmentVariables"].values())
    if path.stem == "local.prefect-worker":  # the one that reads pictures and models
        assert agent["MaterializeDatalessFiles"] is True
        assert agent["EnvironmentVariables"]["HF_HOME"] == "/h"
    assert path.stem in (ROOT / "docs" / "mac.md").read_text()
