"""One folder by one worker and by two, each with a core and a BLAS thread to itself.

    python -m benchmarks.fleet [--pictures 64] [--tokens 64] [--shards 8] [--rounds 2]

The same shards both times, in turn, in one run, on Linux with two cores or more. The server and
the dispatcher run beside them, on whatever core is free. A ratio is that of seconds from the first
shard that began to the last that ended; split and merge are what lies before and after.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks import ours, pictures
from benchmarks.checkpoint import make_checkpoint
from benchmarks.environment import RESULTS, ROOT, this_machine
from benchmarks.processes import stopped

NAMES = ("one", "two")


@dataclass(frozen=True, slots=True)
class Times:
    """The seconds of one fleet."""

    split: float
    shards: float
    merge: float

    @property
    def whole(self) -> float:
        """From the beginning of the dispatcher's run to its end."""
        return self.split + self.shards + self.merge


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="One folder by one worker and by two.")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    checkpoint = RESULTS / "checkpoint-small"
    make_checkpoint(checkpoint)
    cores = sorted(os.sched_getaffinity(0))[: len(NAMES)]
    print(this_machine().described())
    with (
        tempfile.TemporaryDirectory() as place,
        ours.prefect_server(Path(place) / "home") as server,
    ):
        folder = Path(place) / "in"
        pictures.draw_mixed(folder, asked.pictures)
        command = [
            *(sys.executable, "-m", "flows.fleet", "--shards", str(asked.shards)),
            *("--input-dir", str(folder), "--model", str(checkpoint)),
            *("--max-tokens", str(asked.tokens), "--max-pixels", "0", "--no-gallery"),
        ]
        environment = ours.environment(server, 1)
        deploy = [sys.executable, "-m", "flows.hosting.deploying"]
        subprocess.run(deploy, env=environment, cwd=ROOT, check=True)
        found: dict[int, list[Times]] = {1: [], 2: []}
        with (
            temporary_settings({PREFECT_API_URL: server.url}),
            get_client(sync_client=True) as client,
        ):
            for _ in range(asked.rounds):
                for count in found:
                    with workers(cores[:count], environment, client):
                        output = Path(place) / "out"
                        subprocess.run(
                            [*command, "--output-dir", str(output)],
                            env=environment,
                            cwd=ROOT,
                            check=True,
                        )
                        shutil.rmtree(output)
                    found[count].append(times(client))
                    print(f"{count} worker(s): {found[count][-1]}", flush=True)
    one, two = (median(each.shards for each in found[count]) for count in (1, 2))
    print(f"{asked.pictures} pictures in {asked.shards} shards: {one:.1f} s and {two:.1f} s")
    print(f"scaling: {one / two:.2f}")
    every = [each for several in found.values() for each in several]
    split, merge = median(e.split for e in every), median(e.merge for e in every)
    print(f"split: {split:.1f} s; merge: {merge:.1f} s")


@contextmanager
def workers(
    cores: list[int], environment: dict[str, str], client: SyncPrefectClient
) -> Iterator[None]:
    """A worker on each of the cores, for as long as the block runs."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as place:
        for name, core in zip(NAMES, cores, strict=False):
            log = Path(place) / name
            command = [sys.executable, "-m", "prefect", "worker", "start", "--name", name]
            process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command, "--pool", "mlx", "--limit", "1"],
                env=environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"},
                cwd=ROOT,
                stdout=stack.enter_context(log.open("w")),
                stderr=subprocess.STDOUT,
            )
            stack.enter_context(stopped(process))
            while "started!" not in log.read_text():
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
        yield


def times(client: SyncPrefectClient) -> Times:
    """Those of the fleet that has just ended, by what the server knows."""
    (fleet,) = _latest(client, "caption-fleet", 1)
    assert fleet.start_time and fleet.end_time
    began = fleet.start_time
    shards = [
        run
        for run in _latest(client, "caption-images", 200)
        if run.start_time and run.end_time and run.start_time > began
    ]
    first = min(run.start_time for run in shards if run.start_time)
    last = max(run.end_time for run in shards if run.end_time)
    return Times(
        round((first - began).total_seconds(), 1),
        round((last - first).total_seconds(), 1),
        round((fleet.end_time - last).total_seconds(), 1),
    )


def _latest(client: SyncPrefectClient, flow: str, count: int) -> list[FlowRun]:
    from prefect.client.schemas.sorting import FlowRunSort

    of_flow = FlowFilter(name=FlowFilterName(any_=[flow]))
    sort = FlowRunSort.START_TIME_DESC
    return client.read_flow_runs(flow_filter=of_flow, sort=sort, limit=count)


if __name__ == "__main__":
    main()
