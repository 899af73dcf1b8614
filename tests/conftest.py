"""What the tests share: the embedded checkpoint, pictures, and one real Prefect server."""

import ctypes.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before Prefect is imported: a home of its own, so that no test touches the user's database.
_home = tempfile.TemporaryDirectory(prefix="prefect-home-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _home.name
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# MLX's Linux build has a slow BLAS; whatever the tests start gets the fast one, if it is there.
if sys.platform == "linux" and (fast := ctypes.util.find_library("openblas")):
    os.environ.setdefault("LD_PRELOAD", fast)
for name in [name for name in os.environ if name.startswith("CAPTION_")]:
    del os.environ[name]

import pytest
from PIL import Image, ImageDraw

from captioner.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "models" / "flowcharts-3m-8bit"
LONGEST = (
    "test_fleet",
    "test_deployments",
    "test_faults",
    "test_told",
    "test_terminal",
    "test_ui",
    "test_flow",
    "test_device",
    "test_output_faults",
    "test_screen",
    "test_reference",
    "test_resume",
    "test_run_page",
    "test_hostile",
    "test_fuzz",
    "test_plan",
    "test_families",
    "test_hostile_pictures",
    "test_hostile_checkpoints",
    "test_old_runs",
    "test_formats",
    "test_public_pictures",
    "test_thumbnails",
    "test_review",
    "test_export",
    "test_gallery",
    "test_starting",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that is skipped has failed: there must be all that it needs."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"In CI nothing may be skipped. {reason}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the server is marked so; the files that take longest come first, so that no
    process waits at the end for the other one's."""
    for item in items:
        if "prefect_api" in getattr(item, "fixturenames", ()):
            item.add_marker("server")
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


def hears_hangups() -> None:
    """In a child, before it begins: as from a terminal, also where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def mounted(directory: Path, size: str) -> Iterator[None]:
    """A file system of that size in memory; skips the test where none can be mounted."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    mount = subprocess.run(command, capture_output=True, text=True)
    if mount.returncode != 0:  # in most containers
        pytest.skip(f"needs to mount a file system: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def draw_picture(path: Path, text: str = "START", size: tuple[int, int] = (192, 128)) -> Path:
    """A small real picture file: a box with a word in it."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 20, size[0] - 20, size[1] - 20), fill="red")
    draw.text((30, size[1] // 2), text, fill="black")
    image.save(path)
    return path


@dataclass(frozen=True)
class FlowRun:
    """A finished flow run, as the server tells it."""

    state: Any
    task_runs: dict[str, str]  # the name of each task run and of its state
    logs: list[str]


@pytest.fixture(scope="session", autouse=True)
def without_torch() -> None:
    """What the tests start is installed as on Linux: without torch, which only the oracle needs."""
    paths = [str(ROOT / "tests" / "without_torch"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


@pytest.fixture
def folders(tmp_path: Path) -> Settings:
    """Settings with an empty input directory, an output directory that is not there yet and the
    embedded checkpoint."""
    (tmp_path / "in").mkdir()
    return Settings(
        input_dir=tmp_path / "in", output_dir=tmp_path / "out", model=CHECKPOINT, max_tokens=48
    )


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that costs next to nothing and always says `a blue box`."""
    from benchmarks.checkpoint import make_checkpoint

    directory = tmp_path_factory.mktemp("tiny") / "checkpoint"
    make_checkpoint(directory, tiny=True)
    return directory


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """One real Prefect server for all tests."""
    from prefect.settings import PREFECT_API_URL

    from flows.hosting.server import prefect_server

    with prefect_server():
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def prefect_ui(prefect_api: str) -> Iterator[str]:
    """The address of the UI over the database of that server, which has none: a temporary server
    serves no pages."""
    from tests.real_server import real_server

    with real_server(Path(_home.name), "--no-services") as server:
        yield server.ui_url


@pytest.fixture
def run_flow(prefect_api: str) -> Callable[[Settings], FlowRun]:
    """Runs the flow in this process against the server, and reads back what the server knows."""
    from prefect.client.orchestration import get_client

    from flows.caption_flow import caption_flow
    from flows.hosting.log_lines import FinishedTaskRuns
    from flows.hosting.recorded import wait_until_recorded

    def run(settings: Settings) -> FlowRun:
        with FinishedTaskRuns() as finished:
            state: Any = caption_flow(**settings.grouped(), return_state=True)
        flow_run_id = state.state_details.flow_run_id
        assert wait_until_recorded(flow_run_id, len(finished.ids))
        query = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}, "limit": 200}
        with get_client(sync_client=True) as client:
            runs = client.request("POST", "/task_runs/filter", json=query).json()
            query = {"logs": {"flow_run_id": {"any_": [str(flow_run_id)]}}, "limit": 200}
            logs = client.request("POST", "/logs/filter", json=query).json()
        names = {run["name"]: run["state_name"] for run in runs}
        return FlowRun(state, names, [log["message"] for log in logs])

    return run
