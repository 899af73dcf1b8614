"""Downloads with the real Hub client from a Hub on loopback, and every way in which one breaks.

Nothing of the client is replaced but its clock: the seconds that it would sleep between its own
tries are noted instead (`hub.waits`), which also tells what a user would have to wait.
"""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http

from captioner.checkpoint.download import download
from captioner.checkpoint.failures import explain
from captioner.checkpoint.find import MissingCheckpoint, find_checkpoint, model_location
from captioner.checkpoint.fingerprint import checkpoint_fingerprint
from captioner.checkpoint.memory import memory_bytes
from captioner.errors import (
    CheckpointError,
    DownloadError,
    DownloadInterrupted,
)
from captioner.records import Checkpoint
from captioner.settings import Settings
from tests.conftest import mounted
from tests.hub_server import (
    GATED,
    INFO,
    REPO_NOT_FOUND,
    TREE,
    Cut,
    Fault,
    HubServer,
    Meanwhile,
    Sized,
    Stall,
    Status,
    WrongBytes,
)
from tests.test_checkpoints import SHARDS, write_checkpoint

REPO_ID = "owner/model"
SIZE = 200_000  # bytes of a shard's weights
CHUNK = 1 << 14  # the client writes, and goes on, in whole pieces of this size
CODE_AND_PICKLES = (
    *("modeling_qwen.py", "pytorch_model.bin", "weights.pkl", "pickle.pt", "setup.sh"),
    *("README.md", "onnx/model.safetensors", "sub/config.json", "consolidated.safetensors"),
)


class PatientHub(HubServer):
    """A Hub whose client's sleeps are noted."""

    waits: list[float]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The repository on the Hub."""
    directory = write_checkpoint(tmp_path / "repository", size=SIZE)
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    for name in CODE_AND_PICKLES:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("raise SystemExit('this code was run')")
    return directory


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PatientHub]:
    waits: list[float] = []
    clock = SimpleNamespace(**vars(time) | {"sleep": waits.append})
    monkeypatch.setattr(_http, "time", clock)
    monkeypatch.setattr(file_download, "time", clock)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    with PatientHub(folder, REPO_ID) as server:
        server.waits = waits
        server.patch(monkeypatch, tmp_path / "home")
        yield server
        close_session()


@contextmanager
def impatient(seconds: float = 0.2) -> Iterator[None]:
    """The client waits no longer than this for an answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", seconds)
        patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", seconds)
        yield


@pytest.fixture(params=["cache", "directory"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A download into the Hub cache, and one into `--model DIR`."""
    model = tmp_path / "model" if request.param == "directory" else None
    return Settings(repo_id=REPO_ID, model=model)


def missing(settings: Settings) -> MissingCheckpoint:
    found = find_checkpoint(settings)
    assert isinstance(found, MissingCheckpoint)
    return found


def fetch(settings: Settings) -> Checkpoint:
    """What CheckModel and DownloadModel do: look, download, look again."""
    directory = download(settings.repo_id, missing(settings))
    found = find_checkpoint(settings)
    assert isinstance(found, Checkpoint)
    assert found.directory.resolve() == directory.resolve()
    return found


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.startswith(".")}


def same(first: Path, second: Path) -> bool:
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in SHARDS)


# What arrives


def test_everything_that_a_checkpoint_needs_is_downloaded(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    found = fetch(settings)
    expected = {path.name for path in folder.iterdir() if path.is_file()} - set(CODE_AND_PICKLES)
    assert files(found.directory) == expected
    assert same(found.directory, folder)
    fingerprint = checkpoint_fingerprint(found.directory)
    assert found.revision == (fingerprint if settings.model else hub.commit)
    assert found.directory.is_relative_to(model_location(settings))
    assert hub.waits == []


def test_code_pickles_and_folders_are_never_asked_for(hub: PatientHub, settings: Settings) -> None:
    fetch(settings)
    assert {r.what for r in hub.requests}.isdisjoint(CODE_AND_PICKLES)


def test_a_token_is_sent_when_there_is_one(
    hub: PatientHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(settings)
    assert {r.authorization for r in hub.requests} == {"Bearer hf_secret"}


def test_the_home_directory_in_model_is_the_users(
    hub: PatientHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = fetch(Settings(repo_id=REPO_ID, model=Path("~/weights")))
    assert found.directory == tmp_path / "weights"


def test_weights_that_do_not_fit_into_memory_are_not_downloaded(
    hub: PatientHub, settings: Settings
) -> None:
    hub.fail(SHARDS[0], Sized(memory_bytes() + 1), method="HEAD")
    with pytest.raises(CheckpointError, match="Try a smaller model"):
        fetch(settings)
    assert not hub.fetched(SHARDS[0])


def test_weights_that_are_not_downloaded_need_no_memory(
    hub: PatientHub, settings: Settings
) -> None:
    for name in ("onnx/model.safetensors", "consolidated.safetensors"):
        hub.fail(name, Sized(memory_bytes() + 1), times=None, method="HEAD")
    fetch(settings)


# What was begun is gone on with


def test_a_shard_that_was_cut_goes_on_where_it_stopped(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    hub.fail(SHARDS[0], Cut(after=5 * CHUNK + 100), Cut(after=3 * CHUNK), method="GET")
    assert same(fetch(settings).directory, folder)
    assert [r.start for r in hub.fetched(SHARDS[0])] == [0, 5 * CHUNK, 8 * CHUNK]
    whole = (folder / SHARDS[0]).stat().st_size
    assert hub.fetched(SHARDS[0])[-1].sent == whole - 8 * CHUNK
    assert sum(hub.waits) == 2


def test_a_shard_that_stalls_goes_on_where_it_stopped(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    hub.fail(SHARDS[1], Stall(seconds=30, after=4 * CHUNK), method="GET")
    with impatient(1):
        assert same(fetch(settings).directory, folder)
    assert [r.start for r in hub.fetched(SHARDS[1])] == [0, 4 * CHUNK]


def test_a_second_download_fetches_only_what_the_first_did_not_finish(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    hub.fail(SHARDS[1], Status(500), times=None, method="GET")
    with pytest.raises(DownloadInterrupted, match="files that are finished are kept"):
        fetch(settings)
    unfinished = {problem.split(":")[0] for problem in missing(settings).problems}
    unfinished.add("chat_template.jinja")  # a checkpoint is whole without it
    hub.heal()
    hub.requests.clear()

    assert same(fetch(settings).directory, folder)

    assert SHARDS[1] in unfinished
    assert {r.what for r in hub.requests if r.method == "GET"} - {INFO, TREE} <= unfinished


def test_nothing_unfinished_is_left_behind(hub: PatientHub, settings: Settings) -> None:
    hub.fail(SHARDS[0], Cut(after=2 * CHUNK), Status(500), method="GET")
    with pytest.raises(DownloadInterrupted):
        fetch(settings)
    home = Path(constants.HF_HOME).parent
    assert not list(home.rglob("*.incomplete"))


@pytest.mark.parametrize(
    ("what", "faults", "times"),
    [
        (TREE, [Status(500)], None),
        (INFO, [Meanwhile(lambda: None), Status(500)], 1),  # the client asks again
    ],
)
def test_what_is_there_is_not_taken_for_all_when_the_list_of_files_does_not_come(
    hub: PatientHub,
    folder: Path,
    settings: Settings,
    what: str,
    faults: list[Fault],
    times: int | None,
) -> None:
    shutil.rmtree(fetch(settings).directory / ".cache" / "huggingface" / "trees", True)
    shutil.rmtree(Path(constants.HF_HUB_CACHE) / "models--owner--model" / "trees", True)
    (folder / "added_tokens.json").write_text("{}")  # a new commit
    hub.fail(what, *faults, times=times)
    with pytest.raises(DownloadInterrupted, match="broke off"):
        download(REPO_ID, MissingCheckpoint(settings.model, (), ()))


def test_a_model_that_changes_on_the_hub_during_the_download_is_fetched_as_it_is_then(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    change = Meanwhile(lambda: shutil.copy(folder / SHARDS[1], folder / SHARDS[0]))
    hub.fail(INFO, Meanwhile(lambda: None), change)  # the client asks again after us
    with pytest.raises(DownloadInterrupted, match="start again"):
        fetch(settings)
    assert same(fetch(settings).directory, folder)


# What may pass


def starts_again(hub: PatientHub, settings: Settings, folder: Path, fault: Fault) -> None:
    """The download breaks off, leaves nothing that is taken for whole, and succeeds later."""
    with (
        impatient() if isinstance(fault, Stall) else nullcontext(),
        pytest.raises(DownloadInterrupted, match=r"broke off \(.+\); start again") as caught,
    ):
        fetch(settings)
    assert hub.url not in str(caught.value)
    assert isinstance(find_checkpoint(settings), MissingCheckpoint)
    hub.heal()
    assert same(fetch(settings).directory, folder)


@pytest.mark.parametrize(
    "fault",
    [
        Status(500),
        Status(503, {"Retry-After": "1"}),
        Status(429, {"Retry-After": "120"}),
        Cut(),
        Stall(seconds=30),
    ],
    ids=str,
)
@pytest.mark.parametrize("what", [INFO, TREE, SHARDS[0]])
def test_trouble_that_may_pass_can_be_tried_again(
    hub: PatientHub, folder: Path, what: str, fault: Fault
) -> None:
    hub.fail(what, fault, times=None)
    starts_again(hub, Settings(repo_id=REPO_ID), folder, fault)
    if what == INFO:  # the Hub is down: Prefect's longer and longer delays, and none before them
        assert hub.waits == []


@pytest.mark.parametrize("fault", [Status(500), Cut(), Cut(after=100)], ids=str)
def test_a_shard_that_never_comes_can_be_tried_again(
    hub: PatientHub, folder: Path, settings: Settings, fault: Fault
) -> None:
    hub.fail(SHARDS[0], fault, times=None, method="GET")
    starts_again(hub, settings, folder, fault)
    assert sum(hub.waits) <= 5


@pytest.mark.parametrize("what", [TREE, SHARDS[1]])
def test_a_short_rate_limit_is_waited_for(hub: PatientHub, settings: Settings, what: str) -> None:
    method = "GET"
    hub.fail(what, Status(429, {"Retry-After": "3"}), method=method)
    fetch(settings)
    assert hub.waits == [4]


def test_a_hub_that_nobody_answers_for_can_be_tried_again(
    hub: PatientHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port
    with pytest.raises(DownloadInterrupted, match="broke off"):
        fetch(settings)


def test_a_page_in_place_of_the_hub_can_be_tried_again(hub: PatientHub, settings: Settings) -> None:
    hub.fail(INFO, Status(200))  # an empty body, as from a captive portal
    with pytest.raises(DownloadInterrupted, match="broke off"):
        fetch(settings)


# Bytes that are not what the Hub has


@pytest.mark.parametrize(
    ("name", "position"),
    [(SHARDS[0], 0), (SHARDS[1], -1), ("config.json", 0), ("chat_template.jinja", -1)],
)
def test_wrong_bytes_never_make_a_checkpoint(
    hub: PatientHub, folder: Path, settings: Settings, name: str, position: int
) -> None:
    hub.fail(name, WrongBytes(position), method="GET")
    with pytest.raises(DownloadInterrupted) as caught:
        fetch(settings)
    assert f"damaged files, which were thrown away ({name})" in str(caught.value)
    if name.endswith("jinja"):
        directory = settings.model or missing_directory(hub)
        assert not (directory / name).exists()
    else:
        assert f"{name}: missing" in missing(settings).problems
    hub.requests.clear()

    download(REPO_ID, MissingCheckpoint(settings.model, (), ()))

    found = find_checkpoint(settings)
    assert isinstance(found, Checkpoint)
    assert same(found.directory, folder)
    assert (found.directory / name).read_bytes() == (folder / name).read_bytes()
    assert {r.what for r in hub.requests if r.method == "GET"} <= {INFO, TREE, name}


def missing_directory(hub: PatientHub) -> Path:
    storage = Path(constants.HF_HUB_CACHE) / "models--owner--model"
    return storage / "snapshots" / hub.commit


def test_wrong_bytes_in_the_second_part_of_a_shard_are_found(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    hub.fail(SHARDS[0], Cut(after=3 * CHUNK), WrongBytes(), method="GET")
    with pytest.raises(DownloadInterrupted, match="thrown away"):
        fetch(settings)
    assert same(fetch(settings).directory, folder)


@pytest.mark.parametrize("name", [SHARDS[0], "config.json"])
def test_a_damaged_file_is_replaced_and_nothing_else(
    hub: PatientHub, folder: Path, settings: Settings, name: str
) -> None:
    directory = fetch(settings).directory
    os.truncate(directory / name, 5)
    hub.requests.clear()

    assert same(fetch(settings).directory, folder)

    assert {r.what for r in hub.requests if r.method == "GET"} <= {INFO, TREE, name}


def test_a_damaged_file_is_kept_while_the_hub_cannot_be_reached(
    hub: PatientHub, settings: Settings
) -> None:
    directory = fetch(settings).directory
    os.truncate(directory / SHARDS[0], 5)
    hub.fail(INFO, Status(500))
    with pytest.raises(DownloadInterrupted):
        fetch(settings)
    assert (directory / SHARDS[0]).stat().st_size == 5


def test_what_an_earlier_try_has_mended_is_not_fetched_again(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    """Prefect calls the task again with the arguments of its first try."""
    directory = fetch(settings).directory
    for name in SHARDS:
        os.truncate(directory / name, 5)
    first = missing(settings)
    hub.requests.clear()
    hub.fail(SHARDS[1], Status(500), method="GET")
    with pytest.raises(DownloadInterrupted):
        download(REPO_ID, first)

    download(REPO_ID, first)

    assert same(directory, folder)
    assert [r.status for r in hub.fetched(SHARDS[0])] == [200]
    assert [r.status for r in hub.fetched(SHARDS[1])] == [500, 200]


def test_a_link_in_a_directory_of_the_users_is_not_followed_when_files_are_replaced(
    hub: PatientHub, folder: Path, tmp_path: Path
) -> None:
    settings = Settings(repo_id=REPO_ID, model=tmp_path / "model")
    directory = fetch(settings).directory
    (tmp_path / "precious").write_bytes(b"short")
    (directory / SHARDS[0]).unlink()
    (directory / SHARDS[0]).symlink_to(tmp_path / "precious")
    assert same(fetch(settings).directory, folder)
    assert (tmp_path / "precious").read_bytes() == b"short"


def test_a_model_that_has_changed_on_the_hub_is_downloaded_as_it_is_now(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    hub.fail(SHARDS[1], Status(500), method="GET")
    with pytest.raises(DownloadInterrupted):
        fetch(settings)
    before = hub.commit
    shutil.copy(folder / SHARDS[1], folder / SHARDS[0])
    assert hub.commit != before
    assert same(fetch(settings).directory, folder)


# What cannot pass


@pytest.mark.parametrize(
    ("what", "fault", "sentence"),
    [
        (INFO, REPO_NOT_FOUND, "There is no model owner/model on the Hub"),
        (INFO, Status(401, {"X-Error-Code": "RepoNotFound"}), "check --repo-id, or set HF_TOKEN"),
        (INFO, GATED, "accept its terms on https://huggingface.co/owner/model and set HF_TOKEN"),
        ("config.json", GATED, "owner/model is gated"),
        (SHARDS[0], Status(401, {"X-Error-Code": "GatedRepo"}), "owner/model is gated"),
        (INFO, Status(401), "refused owner/model with status 401: check --repo-id and HF_TOKEN"),
        (INFO, Status(403), "refused owner/model with status 403"),
        (TREE, Status(404, {"X-Error-Code": "RevisionNotFound"}), "with status 404"),
        (SHARDS[1], Status(404, {"X-Error-Code": "EntryNotFound"}), "with status 404"),
    ],
)
def test_a_refusal_of_the_hub_is_one_sentence(
    hub: PatientHub, settings: Settings, what: str, fault: Fault, sentence: str
) -> None:
    hub.fail(what, fault, times=None)
    with pytest.raises(DownloadError) as caught:
        fetch(settings)
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert hub.waits == []
    assert isinstance(find_checkpoint(settings), MissingCheckpoint)


def test_a_name_that_no_repository_can_have_is_one_sentence(
    hub: PatientHub, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="no name of a model on the Hub: check --repo-id"):
        fetch(Settings(repo_id="owner/a--b", model=tmp_path / "model"))


def test_a_repository_without_a_checkpoint_is_one_sentence(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    for path in folder.iterdir():
        if path.is_file() and path.name not in CODE_AND_PICKLES:
            path.unlink()
    with pytest.raises(CheckpointError, match="holds no checkpoint: choose another with --repo-id"):
        fetch(settings)


def test_a_download_that_the_disk_cannot_hold_is_not_begun(
    hub: PatientHub, settings: Settings
) -> None:
    hub.fail("tokenizer.json", Sized(1 << 60), method="HEAD")
    with pytest.raises(DownloadError, match=r"needs .* GB more .* free: free some, or choose"):
        fetch(settings)
    assert {r.what for r in hub.requests if r.method == "GET"} == {INFO, TREE}


def test_files_that_are_there_need_no_space(hub: PatientHub, settings: Settings) -> None:
    directory = fetch(settings).directory
    (directory / "config.json").unlink()
    hub.fail("tokenizer.json", Sized(1 << 60), times=None, method="HEAD")
    assert fetch(settings).directory == directory


def test_files_that_a_new_commit_has_not_changed_need_no_space(
    hub: PatientHub, folder: Path, settings: Settings
) -> None:
    fetch(settings)
    (folder / "config.json").write_text('{"name": "new"}')
    hub.fail("tokenizer.json", Sized(1 << 60), times=None, method="HEAD")
    directory = download(REPO_ID, MissingCheckpoint(settings.model, (), ()))
    assert (directory / "config.json").read_text() == '{"name": "new"}'


@pytest.mark.parametrize("into", ["model", "cache"])
@pytest.mark.parametrize("place", ["below a file", "/sys"])
def test_a_place_that_cannot_be_written_to_is_one_sentence(
    hub: PatientHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, into: str, place: str
) -> None:
    (tmp_path / "file").write_text("")
    # not even root may make a directory in /sys
    target = (Path("/sys") if place == "/sys" else tmp_path / "file") / "captions"
    if into == "cache":
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(target))
    settings = Settings(repo_id=REPO_ID, model=target if into == "model" else None)
    with pytest.raises(DownloadError) as caught:
        fetch(settings)
    assert str(caught.value).startswith(f"{target} cannot be written to (")
    assert "check its permissions, or choose another place" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "No space is left in /data for owner/model: free some"),
        (errno.EDQUOT, "No space is left in /data for owner/model: free some"),
        (errno.EFBIG, "/data cannot hold files as large as those of owner/model"),
    ],
)
def test_a_full_disk_is_one_sentence_however_deep_it_is_found(code: int, sentence: str) -> None:
    try:
        try:
            raise OSError(code, os.strerror(code))
        except OSError as inner:
            raise RuntimeError("the client failed") from inner
    except RuntimeError as outer:
        error = explain(outer, REPO_ID, Path("/data"))
    assert isinstance(error, DownloadError)
    assert str(error).startswith(sentence)


# In a process of its own, with nothing but the environment: as users run it

CHILD = """
import sys
from pathlib import Path
import resource

if sys.argv[1] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)

from captioner.checkpoint.find import MissingCheckpoint, find_checkpoint
from captioner.checkpoint.download import download
from captioner.errors import CaptionerError
from captioner.settings import Settings

settings = Settings(repo_id="owner/model", model=sys.argv[2] if len(sys.argv) > 2 else None)
missing = find_checkpoint(settings)
try:
    if isinstance(missing, MissingCheckpoint):
        download("owner/model", missing)
except CaptionerError as error:
    print(type(error).__name__, error)
found = find_checkpoint(settings)
print("MISSING" if isinstance(found, MissingCheckpoint) else found.directory)
"""


def run_child(hub: PatientHub, home: Path, *arguments: str, **extra: str) -> list[str]:
    """The lines that a fresh process prints: the error, if any, and where the checkpoint is."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *(arguments or ("0",))],
        env=os.environ | hub.environment(home) | extra,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Traceback" not in done.stderr
    assert "dry-run" not in done.stderr
    return done.stdout.splitlines()


def test_the_environment_alone_leads_there(hub: PatientHub, tmp_path: Path) -> None:
    expected = tmp_path / "elsewhere" / "hub" / "models--owner--model" / "snapshots" / hub.commit
    assert run_child(hub, tmp_path / "elsewhere") == [str(expected)]
    requests = len(hub.requests)
    # what is whole is found without the Hub, and without asking it
    assert run_child(hub, tmp_path / "elsewhere", HF_HUB_OFFLINE="1") == [str(expected)]
    assert len(hub.requests) == requests


def test_offline_without_the_model_is_one_sentence(hub: PatientHub, tmp_path: Path) -> None:
    lines = run_child(hub, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert lines[0].startswith("DownloadError owner/model is not complete in ")
    assert "HF_HUB_OFFLINE is set: unset it to download" in lines[0]
    assert lines[1:] == ["MISSING"]
    assert hub.requests == []


@pytest.mark.parametrize("into", ["cache", "directory"])
def test_files_that_the_file_system_cannot_hold_are_one_sentence(
    hub: PatientHub, tmp_path: Path, into: str
) -> None:
    arguments = ("100000",) if into == "cache" else ("100000", str(tmp_path / "model"))
    lines = run_child(hub, tmp_path / "home", *arguments)
    assert lines[0].startswith("DownloadError ")
    assert "cannot hold files as large as those of owner/model: choose another" in lines[0]
    assert lines[1:] == ["MISSING"]


@pytest.mark.parametrize("into", ["cache", "directory"])
def test_a_disk_that_fills_up_is_one_sentence(hub: PatientHub, tmp_path: Path, into: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for name in SHARDS:  # as if it had been enough when the download began
        hub.fail(name, Sized(1000), method="HEAD")
    home = disk if into == "cache" else tmp_path / "home"
    arguments = ("0",) if into == "cache" else ("0", str(disk / "model"))
    with mounted(disk, "300k"):
        lines = run_child(hub, home, *arguments)
    assert lines[0].startswith(f"DownloadError No space is left in {disk}")
    assert "free some, or choose another place with HF_HOME or --model" in lines[0]
    assert lines[1:] == ["MISSING"]
