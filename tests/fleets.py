"""A team's server and its machines: PostgreSQL, Prefect's server with a password, and workers with
homes, checkouts, networks and mounts of their own, all on this machine.

    with team(folder) as team, team.machine("anna") as anna:
        anna.start_worker()
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from captioner.pictures.names import RESERVED
from captioner.plan import shard_of
from flows.hosting.server import HOST, free_port
from flows.hosting.ui import descendants
from tests.conftest import ROOT, hears_hangups
from tests.networks import Host, Network, network
from tests.real_server import RealServer, real_server

PASSWORD = "team:a password"
CHECKOUT = ("automations", "captioner", "flows", "tasks", "prefect.yaml")
MODEL = "models/flowcharts-3m-8bit"
PATIENCE = 240.0  # seconds, for whatever takes a second or ten
# so that nobody waits for what is looked after every ten seconds, or once a minute
IMPATIENT = {"PREFECT_WORKER_QUERY_SECONDS": "1"}

Process = subprocess.Popen[str]


def wait_for(
    what: Callable[[], Any],
    describe: Callable[[], object] = lambda: "",
    patience: float = PATIENCE,
) -> Any:
    """What the call returns, once that is something."""
    deadline = time.monotonic() + patience
    while not (result := what()):
        assert time.monotonic() < deadline, describe()
        time.sleep(0.2)
    return result


@contextmanager
def postgresql() -> Iterator[str]:
    """A server of Debian's PostgreSQL with an empty database; its address as Prefect takes it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    as_root = os.geteuid() == 0  # whom PostgreSQL refuses
    user = pwd.getpwnam("postgres" if as_root else pwd.getpwuid(os.geteuid()).pw_name)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)

        def start(program: str, *arguments: str) -> "subprocess.Popen[bytes]":
            return subprocess.Popen(
                [programs[-1] / program, "-D", f"{folder}/data", *arguments],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                user=user.pw_uid,
                group=user.pw_gid,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            )

        made = start("initdb", "--username=prefect", "--auth=trust", "--no-sync")
        said, _ = made.communicate()
        assert made.returncode == 0, said.decode()
        log = Path(folder) / "log"
        quick = ("-F", "-k", folder, "-h", HOST, "-p", str(port))  # -F: nothing outlives the test
        with log.open("wb") as _:
            server = start("postgres", *quick)
        try:
            assert server.stdout
            while b"ready to accept connections" not in (line := server.stdout.readline()):
                assert line, "PostgreSQL has not started"
            yield f"postgresql+asyncpg://prefect@{HOST}:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)


@dataclass
class Machine:
    """One machine: a home, a checkout and a mount of the shared folder, on a network."""

    name: str
    host: Host
    home: Path
    shared: Path  # as it is called there
    environment: dict[str, str]
    worker: Process | None = None
    started: list[Process] = field(default_factory=list)

    @property
    def checkout(self) -> Path:
        return self.home / "captioning"

    def start(self, *arguments: str, log: str = "log", **environment: str) -> Process:
        """A command of this Python's modules, in the machine's checkout."""
        path = self.home / f"{log}.txt"
        with path.open("a") as file:
            process = subprocess.Popen(
                self.host.command(sys.executable, "-m", *arguments, cwd=self.checkout),
                cwd=self.checkout,
                env=self.environment | environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=hears_hangups,
            )
        self.started.append(process)
        return process

    def said(self, log: str = "log") -> str:
        return (self.home / f"{log}.txt").read_text()

    def start_worker(self, **environment: str) -> None:
        """A worker that takes one shard at a time, as docs/several-macs.md starts it."""
        pool = ("worker", "start", "--pool", "mlx", "--limit", "1", "--name", self.name)
        self.worker = self.start("prefect", *pool, log="worker", **environment)
        wait_for(lambda: "started!" in self.said("worker"), lambda: self.said("worker"))

    def kill_worker(self) -> None:
        """As when the power goes: the worker, and what it runs."""
        assert self.worker
        _kill(self.worker)
        self.worker = None

    def end(self) -> None:
        """End all that runs on it."""
        for process in self.started:
            if process.poll() is None:
                _kill(process)


@dataclass
class Team:
    """A server, and what its machines share."""

    folder: Path
    shared: Path  # where the pictures and the captions really are
    network: Network
    port: int
    environment: dict[str, str]
    database: str
    server: ExitStack = field(default_factory=ExitStack)
    running: RealServer | None = None

    @property
    def api(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    @property
    def output(self) -> Path:
        """Where the captions really are."""
        return self.shared / "out"

    def start_server(self) -> None:
        more = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database,
            "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
        }
        home = self.folder / "server"
        home.mkdir(exist_ok=True)
        server = real_server(home, host=self.network.listen, port=self.port, more=more)
        self.running = self.server.enter_context(server)

    def stop_server(self) -> None:
        self.server.close()

    @contextmanager
    def machine(self, name: str, worker: bool = False) -> Iterator[Machine]:
        """A machine, until the block ends."""
        home = self.folder / name
        shared = home / "Volumes" / "pictures"
        shared.mkdir(parents=True)
        with self.network.host(name) as host:
            its_own = self._its_own(home, shared) | {
                "PREFECT_API_URL": f"{host.server(self.port)}/api"
            }
            machine = Machine(name, host, home, shared, self.environment | its_own)
            for part in (*CHECKOUT, MODEL):
                source, copy = ROOT / part, machine.checkout / part
                copy.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, copy)
            host.mount(self.shared, shared)
            try:
                if worker:
                    machine.start_worker()
                yield machine
            finally:
                machine.end()
                host.unmount(shared)

    def _its_own(self, home: Path, shared: Path) -> dict[str, str]:
        return {
            "HOME": str(home),
            "PREFECT_HOME": str(home / ".prefect"),
            "HF_HOME": str(home / "huggingface"),
            "PYTHONPATH": os.pathsep.join([str(home / "captioning"), *_without_ours()]),
            "CAPTION_INPUT_DIR": str(shared / "in"),
            "CAPTION_OUTPUT_DIR": str(shared / "out"),
        }


def _kill(process: Process) -> None:
    for pid in {process.pid, *descendants(process.pid)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@contextmanager
def team(folder: Path, hostnames: bool = False) -> Iterator[Team]:
    """A server with PostgreSQL and a password, deployments and automations, and a shared folder;
    with `hostnames` its machines have names of their own."""
    shared, port = folder / "shared", free_port()
    (shared / "in").mkdir(parents=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "CAPTION_"))}
    environment = kept | IMPATIENT | {"PREFECT_API_AUTH_STRING": PASSWORD}
    with network(hostnames) as lan, postgresql() as database:
        made = Team(folder, shared, lan, port, environment, database)
        made.start_server()
        try:
            yield made
        finally:
            made.stop_server()


def _without_ours() -> list[str]:
    """What else is on the path of this Python: the tests' own, not this checkout."""
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [place for place in path if place and Path(place).resolve() != ROOT]


# --- one folder, captioned by a team ---


def flags(repo_id: str | None = None) -> list[str]:
    """What is asked of the embedded checkpoint, or of a repository with the same: little."""
    model = ["--repo-id", repo_id] if repo_id else ["--model", MODEL]
    return [*model, "--max-tokens", "24", "--max-pixels", "16384"]


def captions(output: Path) -> dict[str, str]:
    """The caption files by name."""
    found = {path.name: path.read_text() for path in output.glob("*.json")}
    return {name: text for name, text in found.items() if name not in RESERVED}


def lines(output: Path) -> list[dict[str, Any]]:
    """The lines of all captions that were made, also of those that are not merged yet."""
    found = []
    for path in output.glob("provenance*.jsonl"):
        for line in path.read_text().splitlines():
            with suppress(ValueError):  # it is being written
                found.append(json.loads(line))
    return [line for line in found if line["result"] == "captioned"]


def captioned_twice(output: Path) -> list[str]:
    """The pictures that were captioned more than once."""
    counted = Counter(line["image"] for line in lines(output))
    return sorted(image for image, count in counted.items() if count > 1)


def without_times(output: Path) -> dict[str, object]:
    """What a run left in an output folder, file by file, but for times and places."""
    found: dict[str, object] = {}
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.is_dir() or name in (".run.lock", "gallery/data.js"):
            continue
        if path.suffix == ".jpg":
            found[name] = path.read_bytes()
            continue
        text = path.read_text()
        if path.name == "provenance.jsonl":
            every = [json.loads(line) for line in text.splitlines()]
            for line in every:
                del line["at"]
                line.pop("seconds", None)  # of a caption
            found[name] = {line["image"]: line for line in every}
        elif path.name == "summary.json":
            said = json.loads(text)
            for figures in said["captions"]:
                del figures["seconds"]
            said["captions"].sort(key=lambda figures: figures["image"])
            kept = ("state", "counts", "captions", "skipped", "failed", "edited", "gone")
            found[name] = {key: said[key] for key in kept}
        else:
            found[name] = text
    return found


def shards_of(client: SyncPrefectClient) -> list[FlowRun]:
    """The runs of shards, in the order in which they were given out."""
    flow_runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    return [run for run in flow_runs if "shard" in run.name]


@dataclass(frozen=True)
class AtWork:
    """A run of a shard that is under way on a machine."""

    run: FlowRun
    pid: int
    shard: str  # as in the names of files: 3-of-12

    def made(self, output: Path) -> int:
        """How many captions its shard has, whoever made them."""
        number, of = map(int, self.shard.split("-of-"))
        return sum(shard_of(line["image"], of) == number for line in lines(output))


def in_mid_shard(
    client: SyncPrefectClient, machine: Machine, output: Path, stop: bool = False
) -> AtWork:
    """The run of a shard of which the machine has made a caption, and not the last; with `stop` its
    process is stopped."""
    while True:
        for lease in output.glob(".shard-*.lease"):
            with suppress(FileNotFoundError, IndexError, ValueError):
                pid = int(lease.read_text().split()[1])
                shard = lease.name.removeprefix(".shard-").removesuffix(".lease")
                of_worker = machine.worker and _parent(pid) == machine.worker.pid
                if of_worker and _made(output, shard):
                    if stop:
                        os.kill(pid, signal.SIGSTOP)
                    wanted = f"shard {shard.replace('-', ' ')}"
                    runs = reversed(shards_of(client))
                    return AtWork(next(r for r in runs if wanted in r.name), pid, shard)
        time.sleep(0.01)


def _made(output: Path, shard: str) -> int:
    files = output.glob(f"provenance-{shard}-*")
    return sum(path.read_text().count('"captioned"') for path in files)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
