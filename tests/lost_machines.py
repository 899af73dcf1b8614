"""What becomes of a fleet when something is lost: `python -m tests.lost_machines [SCENARIO …]`.

300 pictures in 12 shards on three machines, PostgreSQL and a password, once for each scenario, and
on one machine, with which all are compared. It takes a quarter of an hour, so that CI has a smaller
one: tests/test_fleet.py.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.hosting.ui import descendants
from tests.conftest import draw_picture
from tests.fleets import (
    MODEL,
    PASSWORD,
    Machine,
    Process,
    Team,
    captioned_twice,
    flags,
    lines,
    mounted_at,
    shards_of,
    stopped_in_mid_shard,
    team,
    wait_for,
    without_times,
)

AWAY_SECONDS = 60.0


@dataclass
class Fleet:
    """A fleet under way."""

    team: Team
    client: SyncPrefectClient
    machines: list[Machine]
    shards: int
    dispatcher: Process | None = None
    figures: dict[str, object] = field(default_factory=dict)

    @property
    def boss(self) -> Machine:
        return self.machines[0]

    @property
    def output(self) -> Path:
        return self.team.shared / "out"

    def dispatch(self) -> None:
        """Start the dispatcher, as in a terminal."""
        command = ("flows.fleet", "--shards", str(self.shards), *flags())
        self.dispatcher = self.boss.start(*command, log="fleet")

    def until(self, captions: int) -> None:
        """Wait until so many captions are made."""
        wait_for(lambda: len(lines(self.output)) >= captions, lambda: self.boss.said("fleet"))

    def end(self) -> None:
        """Wait for the end of the dispatcher."""
        assert self.dispatcher
        self.dispatcher.wait(900)
        self.figures["exit code"] = self.dispatcher.returncode


def plain(fleet: Fleet) -> None:
    """Nothing is lost."""
    fleet.dispatch()
    fleet.end()


def killed(fleet: Fleet) -> None:
    """A machine loses its power in the midst of a shard."""
    fleet.dispatch()
    lost = stopped_in_mid_shard(fleet.client, fleet.machines[1])
    fleet.machines[1].kill_worker()
    since = time.monotonic()

    def noticed() -> bool:
        state = fleet.client.read_flow_run(lost.id).state
        return bool(state and state.is_crashed())

    wait_for(noticed)
    fleet.figures["seconds until its state was true"] = round(time.monotonic() - since)
    fleet.end()


def asleep(fleet: Fleet) -> None:
    """A machine falls asleep in the midst of a shard, and wakes up after that was given out again
    and begun."""
    ben = fleet.machines[1]
    fleet.dispatch()
    lost = stopped_in_mid_shard(fleet.client, ben)
    assert ben.worker
    pids = {ben.worker.pid, *descendants(ben.worker.pid)}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    again = f"{lost.name}, run 2"
    wait_for(lambda: any(r.name == again and r.start_time for r in shards_of(fleet.client)))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    fleet.end()
    fleet.figures["it said"] = [
        line[line.index("Shard") :]
        for line in ben.said("worker").splitlines()
        if "any more" in line
    ]


def added(fleet: Fleet) -> None:
    """Two machines come when the first is at work already."""
    for machine in fleet.machines[1:]:
        machine.kill_worker()
    fleet.dispatch()
    fleet.until(10)
    for machine in fleet.machines[1:]:
        machine.start_worker()
    fleet.end()
    counted = {m.name: m.said("worker").count("Finished in state") for m in fleet.machines}
    fleet.figures["shards by machine, all scenarios so far"] = counted


def server(fleet: Fleet) -> None:
    """Prefect's server is stopped, and started again half a minute later."""
    fleet.dispatch()
    fleet.until(30)
    fleet.team.stop_server()
    time.sleep(AWAY_SECONDS / 2)
    fleet.team.start_server()
    fleet.end()


def dispatcher(fleet: Fleet) -> None:
    """The dispatcher is killed, and started again half a minute later."""
    fleet.dispatch()
    fleet.until(30)
    assert fleet.dispatcher
    os.killpg(fleet.dispatcher.pid, signal.SIGKILL)
    fleet.dispatcher.wait()
    time.sleep(AWAY_SECONDS / 2)
    fleet.dispatch()
    fleet.end()


def folder(fleet: Fleet) -> None:
    """The shared folder is gone everywhere for a minute."""
    fleet.dispatch()
    fleet.until(30)
    for machine in fleet.machines:
        subprocess.run(["umount", "--lazy", str(machine.shared)], check=True)
    time.sleep(AWAY_SECONDS)
    with ExitStack() as again:
        for machine in fleet.machines:
            again.enter_context(mounted_at(fleet.team.shared, machine.shared))
        fleet.end()
    for machine in fleet.machines:
        mounted_at(fleet.team.shared, machine.shared).__enter__()


def small(fleet: Fleet) -> None:
    """One machine has not enough memory for the model."""
    poor = fleet.machines[1]
    poor.kill_worker()
    poor.start_worker(CAPTION_MODEL=str(too_large(poor.home)))
    fleet.dispatch()
    fleet.end()
    refused = [run for run in shards_of(fleet.client) if run.state and run.state.name == "Refused"]
    fleet.figures["refused"] = len(refused)
    fleet.figures["said"] = refused[0].state.message if refused and refused[0].state else None
    poor.kill_worker()
    poor.start_worker()


def interrupted(fleet: Fleet) -> None:
    """Ctrl-C at the dispatcher, which is started again when the shards have ended."""
    fleet.dispatch()
    fleet.until(10)
    assert fleet.dispatcher
    fleet.dispatcher.send_signal(signal.SIGINT)
    fleet.figures["exit code of the first"] = fleet.dispatcher.wait(60)

    def all_ended() -> bool:
        return all(run.state and run.state.is_final() for run in shards_of(fleet.client))

    wait_for(all_ended)
    fleet.dispatch()
    fleet.end()


def deployed(fleet: Fleet) -> None:
    """Nothing is lost; the dispatcher is a run of its deployment."""
    worker = fleet.boss.start("prefect", "worker", "start", "--pool", "fleet", log="dispatcher")
    deployment = fleet.client.read_deployment_by_name("caption-fleet/several-machines")
    parameters = {
        "model": {"model": MODEL},
        "decoding": {"max_tokens": 24},
        "pictures": {"max_pixels": 16384},
        "fleet": {"shards": fleet.shards},
    }
    run = fleet.client.create_flow_run_from_deployment(deployment.id, parameters=parameters)

    def ended() -> bool:
        state = fleet.client.read_flow_run(run.id).state
        return bool(state and state.is_final())

    wait_for(ended, lambda: fleet.boss.said("dispatcher"))
    state = fleet.client.read_flow_run(run.id).state
    fleet.figures["state"] = state.name if state else None
    worker.terminate()


SCENARIOS: dict[str, Callable[[Fleet], None]] = {
    each.__name__: each
    for each in (
        *(plain, killed, asleep, added, server, dispatcher, folder, small),
        *(interrupted, deployed),
    )
}


def too_large(home: Path) -> Path:
    """A checkpoint directory whose weights are larger than any memory, and take up no disk."""
    import json
    import shutil
    import struct

    from tests.conftest import CHECKPOINT

    place = home / "too-large"
    if not place.exists():
        shutil.copytree(CHECKPOINT, place)
        header = {"weight": {"dtype": "U8", "shape": [1 << 42], "data_offsets": [0, 1 << 42]}}
        data = json.dumps(header).encode()
        for path in place.glob("*.safetensors"):
            path.unlink()
        for path in place.glob("*.safetensors.index.json"):
            path.unlink()
        with (place / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(data)) + data)
            file.truncate(len(data) + 8 + (1 << 42))  # 4 TB, of which the disk has a page
    return place


@contextmanager
def fleets(pictures: int, shards: int, machines: int) -> Iterator[Fleet]:
    """A team with its machines and pictures, whose workers are online."""
    place = Path(tempfile.mkdtemp(prefix="fleet-"))
    with ExitStack() as stack:
        made = stack.enter_context(team(place))
        for number in range(pictures):
            draw_picture(made.shared / "in" / f"p{number}.png", f"N {number}")
        names = ("anna", "ben", "chris", "dora")[:machines]
        each = [stack.enter_context(made.machine(name)) for name in names]
        deploying = each[0].start("flows.hosting.deploying", log="deploy")
        assert deploying.wait() == 0, each[0].said("deploy")
        for machine in each:
            machine.start_worker()
        stack.enter_context(
            temporary_settings({PREFECT_API_URL: made.api, PREFECT_API_AUTH_STRING: PASSWORD})
        )
        client = stack.enter_context(get_client(sync_client=True))
        yield Fleet(made, client, each, shards)


def on_one_machine(fleet: Fleet) -> dict[str, object]:
    """What a single run leaves."""
    alone = fleet.team.shared / "alone"
    command = [sys.executable, "flows/caption_flow.py", *flags(), "--output-dir", str(alone)]
    environment = {k: v for k, v in fleet.boss.environment.items() if k != "PREFECT_API_URL"}
    run = subprocess.run(command, cwd=fleet.boss.checkout, env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return without_times(alone)


def main() -> None:
    """Run the scenarios one after another."""
    parser = argparse.ArgumentParser(description="Lose machines, and see what becomes of a fleet.")
    parser.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS], default=[])
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--machines", type=int, default=3)
    asked = parser.parse_args()
    with fleets(asked.pictures, asked.shards, asked.machines) as fleet:
        expected = on_one_machine(fleet)
        for name in asked.scenario or SCENARIOS:
            fleet.figures.clear()
            began = time.monotonic()
            SCENARIOS[name](fleet)
            same = without_times(fleet.output)
            different = [
                file for file in {*expected, *same} if expected.get(file) != same.get(file)
            ]
            twice = captioned_twice(fleet.output)
            print(f"{name}: {SCENARIOS[name].__doc__}")
            print(f"  {time.monotonic() - began:.0f} s; captioned twice: {twice}")
            print(f"  differs from one machine's in: {different or 'nothing'}")
            for what, figure in fleet.figures.items():
                print(f"  {what}: {figure}", flush=True)
            if fleet.figures.get("exit code"):
                print(fleet.boss.said("fleet")[-3000:])
            fleet.output.rename(fleet.output.with_name(f"out-{name}"))


if __name__ == "__main__":
    main()
