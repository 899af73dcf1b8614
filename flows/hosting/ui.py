"""`make ui`: Prefect's server and UI, the deployments and a worker, until Ctrl-C ends them all;
with an address for messages, the automations that send them.

The server is the one that PREFECT_API_URL or the profile names, and is then left alone; without
one it is started here, on PREFECT_SERVER_API_PORT. It knows nothing of what a run does.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from flows.hosting.deploying import POOL, PREFECT, ROOT, DeployError, deploy
from flows.hosting.notify import is_address, notify
from flows.hosting.server import HOST, IN_BATCHES, wait_until_healthy

STOP_SECONDS = 60.0  # a run saves what is finished, and reports it

WELCOME = """
Prefect's UI: {ui}
Runs are started there, and take place here. Ctrl-C ends it all.
To see what comes out: Deployments, demonstration, Run, Quick run; it needs no download.
For commands of Prefect's in another terminal: export PREFECT_API_URL={api}
"""

Process = subprocess.Popen[bytes]


class UiError(Exception):
    """The server or the worker cannot be had; `str()` says what to do."""


def main() -> int:
    """Run until interrupted; returns the exit code."""
    address = sys.argv[1] if len(sys.argv) > 1 else ""
    if address and not is_address(address):
        print("NOTIFY must be an address that begins with https:// or http://.", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

    try:
        with _server() as server:
            print("Deploying...", flush=True)
            deploy()
            if address:
                notify(address)
            with _worker() as worker:
                ui, api = PREFECT_UI_URL.value(), PREFECT_API_URL.value()
                print(WELCOME.format(ui=ui, api=api), flush=True)
                _wait({"server": server, "worker": worker})
    except (UiError, DeployError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


@contextmanager
def _server() -> Iterator[Process | None]:
    """A server, for as long as the block runs, or None when one is configured.

    Raises:
        UiError: the port is taken, or the server does not start.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_HOME,
        PREFECT_SERVER_API_PORT,
        temporary_settings,
    )

    if PREFECT_API_URL.value():
        yield None
        return
    port = PREFECT_SERVER_API_PORT.value()
    _check_free(port)
    url = f"http://{HOST}:{port}"
    log = Path(PREFECT_HOME.value()) / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"Starting Prefect's server (10 to 20 s); its log is {log}", flush=True)
    for name in ("PREFECT_API_URL", "PREFECT_UI_API_URL"):  # for all that is started here
        os.environ[name] = f"{url}/api"
    with (
        log.open("w") as file,
        temporary_settings({PREFECT_API_URL: f"{url}/api"}),
        subprocess.Popen(
            [*PREFECT, "server", "start", "--host", HOST, "--port", str(port)],
            env={**IN_BATCHES, **os.environ},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others in order
        ) as server,
    ):
        try:
            if not wait_until_healthy(url, server):
                raise UiError(f"Prefect's server did not start; {log} says why.")
            yield server
        finally:
            _end(server, signal.SIGTERM)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UiError(
                f"Port {port} is in use. If that is a Prefect server, set "
                f"PREFECT_API_URL=http://{HOST}:{port}/api; if not, choose another port with "
                "PREFECT_SERVER_API_PORT."
            ) from error


@contextmanager
def _worker() -> Iterator[Process]:
    """A worker that runs one run at a time, for as long as the block runs; its runs end with it."""
    with subprocess.Popen(
        [*PREFECT, "worker", "start", "--pool", POOL, "--limit", "1"],
        cwd=ROOT,
        start_new_session=True,
    ) as worker:
        try:
            yield worker
        finally:
            _end_runs(worker)
            _end(worker, signal.SIGINT)


def _end_runs(worker: Process) -> None:
    """Interrupt the worker's runs and wait for them: by itself it would let them finish."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("Stopping; what is finished is kept...", flush=True)
    told: set[int] = set()
    deadline = time.monotonic() + STOP_SECONDS
    while (runs := descendants(worker.pid)) and time.monotonic() < deadline:
        for run in runs - told:
            with suppress(ProcessLookupError):
                os.kill(run, signal.SIGTERM)
        told |= runs
        time.sleep(0.2)
    for run in descendants(worker.pid):
        with suppress(ProcessLookupError):
            os.kill(run, signal.SIGKILL)


def descendants(pid: int) -> set[int]:
    """All processes that a process has started, and those have."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    rows = [tuple(map(int, line.split())) for line in listing.stdout.splitlines()]
    found, newest = set[int](), {pid}
    while newest := {child for child, parent in rows if parent in newest}:
        found |= newest
    return found


def _end(process: Process, number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait(processes: dict[str, Process | None]) -> NoReturn:
    """Wait for ever.

    Raises:
        UiError: one of the processes has ended by itself.
    """
    while True:
        for name, process in processes.items():
            if process is not None and process.poll() is not None:
                raise UiError(f"Prefect's {name} has ended with exit code {process.returncode}.")
        time.sleep(0.5)


if __name__ == "__main__":
    raise SystemExit(main())
