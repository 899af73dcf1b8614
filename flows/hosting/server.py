"""A Prefect server for the time of one run, when no other is configured.

Prefect would start one by itself, but lets its tracebacks through to the terminal and stops it
before it has recorded the last task runs. This one logs to a file, and is stopped when everything
is in the database. `python -m flows.hosting.server PORT` is the server; it ends with the process
that started it, however that ends.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.hosting.recorded import send_what_is_queued

HOST = "127.0.0.1"
# A server records task runs in batches: one by one they cost more than twice the processor time.
IN_BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "64",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "64",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",  # seconds
}
# The events that task runs are made from are not kept besides: nine a picture, half of the rest.
WITHOUT_EVENTS = {"PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false"}
START_SECONDS = 120.0  # an empty PREFECT_HOME takes 20 s on two cores; a busy machine more


class ServerError(Exception):
    """The temporary server cannot be started; `str()` says what to do."""


@contextmanager
def prefect_server() -> Iterator[None]:
    """The server that Prefect is configured for, or a temporary one.

    Raises:
        ServerError: the temporary server does not start.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    log = Path(PREFECT_HOME.value()) / "temporary-server.log"
    print("Starting a temporary Prefect server (about 10 s, 20 s the first time)...", flush=True)
    with _running(log) as url, temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        try:
            yield
        finally:
            send_what_is_queued()


@contextmanager
def _running(log: Path) -> Iterator[str]:
    port = free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "flows.hosting.server", str(port)],
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
    import uvicorn

    threading.Thread(target=_end_with_parent, daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host=HOST,
        port=port,
        log_level="error",
        ws_per_message_deflate=False,  # events need not be compressed to stay on this machine
        timeout_graceful_shutdown=5,
    )


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    # no telemetry, and none of the services that a server for one run has no use for
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["PREFECT__SERVER_EPHEMERAL"] = "1"
    os.environ["PREFECT__SERVER_FINAL"] = "1"
    os.environ.pop("PREFECT_LOGGING_CONFIG_PATH", None)
    for name, value in {**IN_BATCHES, **WITHOUT_EVENTS}.items():
        os.environ.setdefault(name, value)
    _serve(int(sys.argv[1]))
