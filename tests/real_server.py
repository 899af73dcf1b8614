"""`prefect server start`, the server that a user starts, with its UI, on a free port."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.hosting.server import HOST, free_port, wait_until_healthy


@dataclass(frozen=True)
class RealServer:
    """A running server."""

    api_url: str
    log: Path

    @property
    def ui_url(self) -> str:
        """The address of the UI, without a slash at its end."""
        return self.api_url.removesuffix("/api")


@contextmanager
def real_server(
    home: Path,
    *flags: str,
    host: str = HOST,
    port: int = 0,
    more: Mapping[str, str] | None = None,
) -> Iterator[RealServer]:
    """A server over the database in `home`, for as long as the block runs, for this machine or also
    for others (`host`); with `more` in its environment."""
    port = port or free_port()
    server = RealServer(f"http://{HOST}:{port}/api", home / f"server-{port}.log")
    kept = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    environment = kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_UI_API_URL": server.api_url,  # or its pages would ask port 4200
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **(more or {}),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host]
    with (
        server.log.open("a") as log,
        subprocess.Popen(
            [*command, "--port", str(port), *flags],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            if not wait_until_healthy(server.ui_url, process):
                raise RuntimeError(f"prefect server start failed:\n{server.log.read_text()}")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
