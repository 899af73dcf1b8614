"""This flow, as people run it: `python flows/caption_flow.py` with a Prefect server that runs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.environment import ROOT, measured
from benchmarks.processes import free_port, stopped

TIMEOUT = 900.0


@dataclass(frozen=True, slots=True)
class Server:
    """A Prefect server that runs."""

    url: str
    pid: int
    home: Path


@contextmanager
def prefect_server(home: Path) -> Iterator[Server]:
    """A Prefect server with its database in `home`."""
    port = free_port()
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    home.mkdir(parents=True, exist_ok=True)
    with (
        (home / "server.log").open("w") as log,
        stopped(
            subprocess.Popen(
                [sys.executable, "-m", "flows.hosting.server", str(port)],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.PIPE,  # it ends when this closes
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        ) as process,
    ):
        url = f"http://127.0.0.1:{port}/api"
        deadline = time.monotonic() + 180
        while not _answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the Prefect server did not start: see {log.name}")
            time.sleep(0.2)
        yield Server(url, process.pid, home)


def command(
    checkpoint: Path, pictures: Path, tokens: int, output: Path, batch_size: int = 1
) -> list[str]:
    """The command line of the flow."""
    return [
        *(sys.executable, "flows/caption_flow.py"),
        *("--input-dir", str(pictures), "--output-dir", str(output)),
        *("--model", str(checkpoint), "--max-tokens", str(tokens)),
        *(("--batch-size", str(batch_size)) if batch_size > 1 else ()),
        *("--max-pixels", "0"),  # the pictures are as large as all systems shall see them
    ]


def environment(server: Server, threads: int | None = None) -> dict[str, str]:
    """The environment in which the flow runs with `server`."""
    return measured(threads, PREFECT_API_URL=server.url, PREFECT_HOME=str(server.home))


@contextmanager
def started(
    server: Server, command: list[str], threads: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """The command, begun with `server`, its output to be read; stopped when the block ends."""
    with stopped(
        subprocess.Popen(
            command,
            env=environment(server, threads),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    ) as process:
        yield process


def run(
    server: Server,
    checkpoint: Path,
    pictures: Path,
    tokens: int,
    output: Path,
    batch_size: int = 1,
) -> dict[str, Any]:
    """Run the flow; its summary.json."""
    done = subprocess.run(
        command(checkpoint, pictures, tokens, output, batch_size),
        env=environment(server),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise RuntimeError(f"the flow failed:\n{done.stdout.decode()[-3000:]}")
    summary = json.loads((output / "summary.json").read_bytes())
    for caption in summary["captions"]:
        if caption["generated_tokens"] != tokens or caption["attempts"] != 1:
            raise RuntimeError(f"the checkpoint ends a text or loops: {caption}")
    return dict(summary)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except (URLError, OSError):
        return False
