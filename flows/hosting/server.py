"""A Prefect server for the time of one run, when no other is configured.

Prefect would start one by itself, but lets its tracebacks through to the terminal and stops it
before it has recorded the last task runs. This one logs to a file, and is stopped when everything
is in the database. `python -m flows.hosting.server PORT` is the server; it ends with the process
that started it, however that ends.
"""

import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from captioner.text import printable
from flows.hosting.recorded import send_what_is_queued
from flows.hosting.starting import ROOT

HOST = "127.0.0.1"
# A server records task runs in batches: one by one they cost more than twice the processor time.
IN_BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "64",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "64",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",  # seconds
}
# A server for one run needs the service that records task runs and no other: nothing waits to be
# scheduled, triggered or cleaned up. The events that task runs are made from are not kept besides:
# nine a picture, half of the rest.
WITHOUT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED": "false",
} | {
    f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false"
    for service in (
        "CANCELLATION_CLEANUP",
        "CLEANUP_RECONCILER",
        "DB_VACUUM",
        "EVENT_LOGGER",
        "EVENT_PERSISTER",
        "FOREMAN",
        "LATE_RUNS",
        "PAUSE_EXPIRATIONS",
        "REPOSSESSOR",
        "SCHEDULER",
        "TRIGGERS",
    )
}
START_SECONDS = 120.0  # an empty PREFECT_HOME takes 20 s on two cores; a busy machine more


class ServerError(Exception):
    """There is no server for the run; `str()` says what to do."""


@contextmanager
def prefect_server(say: Callable[[str], None] = print) -> Iterator[bool]:
    """The server that Prefect is configured for, or a temporary one; whether it is temporary.

    `say` tells of waiting for it.

    Raises:
        ServerError: the temporary server does not start.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    if PREFECT_API_URL.value():
        yield False
        return
    log = Path(PREFECT_HOME.value()) / "temporary-server.log"
    say("Starting a temporary Prefect server (about 10 s, 20 s the first time)...")
    with _running(log) as url, temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        try:
            yield True
        finally:
            send_what_is_queued()


@contextmanager
def _running(log: Path) -> Iterator[str]:
    port = free_port()
    with (
        _opened(log) as file,
        subprocess.Popen(
            [sys.executable, "-m", "flows.hosting.server", str(port)],
            env=os.environ
            | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}".strip(":")},
            stdin=subprocess.PIPE,  # closes with this process, and the server with it
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the run; the server has to record its end
        ) as process,
    ):
        try:
            url = f"http://{HOST}:{port}"
            if not wait_until_healthy(url, process):
                raise ServerError(
                    f"The temporary Prefect server did not start; {log} says why. "
                    "Or start one with `prefect server start` and set PREFECT_API_URL."
                )
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _opened(log: Path) -> IO[str]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("w")
    except OSError as error:
        raise ServerError(
            f"PREFECT_HOME cannot be used: {printable(str(error.filename))}: {error.strerror}. "
            "Name a folder that can be written to, or a server with PREFECT_API_URL."
        ) from error


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether the server that `process` starts at `url` answers before its time is up."""
    from urllib.error import URLError
    from urllib.request import urlopen

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"{url}/api/health", timeout=5):
                return True
        except (URLError, OSError):
            time.sleep(0.1)
    return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _serve(port: int) -> None:
    """`prefect server start`, in this process: a child of it could be left behind."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = ["prefect", "server", "start", "--no-ui", "--host", HOST, "--port", str(port)]
    runpy.run_module("prefect", run_name="__main__")


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    os.environ.pop("PREFECT_LOGGING_CONFIG_PATH", None)  # is about the run's log lines
    os.environ.update(WITHOUT)
    for name, value in IN_BATCHES.items():
        os.environ.setdefault(name, value)
    _serve(int(sys.argv[1]))
