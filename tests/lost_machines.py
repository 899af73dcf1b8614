"""What becomes of a fleet when something is lost: `python -m tests.lost_machines [SCENARIO …]`.

300 pictures in 12 shards on three machines, PostgreSQL and a password, once for each scenario, and
on one machine, with which all are compared. Each machine has a network, mounts and a name of its
own, where root may make them (tests/networks.py). It takes hours on two cores, so that CI has a
smaller one: tests/test_fleet.py.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.hosting.ui import descendants
from tests.conftest import draw_picture
from tests.fleets import (
    MODEL,
    PASSWORD,
    AtWork,
    Machine,
    Process,
    Team,
    captioned_twice,
    flags,
    in_mid_shard,
    lines,
    shards_of,
    stop,
    team,
    wait_for,
    without_times,
)
from tests.true_states import Watching

AWAY_SECONDS = 60.0
CUT_OFF_SECONDS = 300.0
LONG = 3600.0  # seconds, for what waits for its turn


@dataclass
class Fleet:
    """A fleet under way."""

    team: Team
    client: SyncPrefectClient
    machines: list[Machine]
    shards: int
    dispatcher: Process | None = None
    dispatched_at: float = 0.0
    figures: dict[str, object] = field(default_factory=dict)

    @property
    def boss(self) -> Machine:
        return self.machines[0]

    @property
    def output(self) -> Path:
        return self.team.output

    def dispatch(self) -> None:
        """Start the dispatcher, as in a terminal."""
        command = ("flows.fleet", "--shards", str(self.shards), *flags())
        self.dispatched_at = time.time()
        self.dispatcher = self.boss.start(*command, log="fleet")

    def until(self, captions: int) -> None:
        """Wait until so many captions are made."""
        wait_for(lambda: len(lines(self.output)) >= captions, self.said, LONG)

    def said(self) -> str:
        """What the dispatchers in the terminal have said."""
        return self.boss.said("fleet")

    def until_crashed(self, lost: AtWork) -> None:
        """Wait until the server knows that a run is lost, and note how long that took."""
        since = time.monotonic()

        def noticed() -> bool:
            state = self.client.read_flow_run(lost.run.id).state
            return bool(state and state.is_crashed())

        wait_for(noticed)
        self.figures["seconds until it was Crashed"] = round(time.monotonic() - since)

    def end(self) -> None:
        """Wait for the end of the dispatcher."""
        assert self.dispatcher
        self.dispatcher.wait(LONG)
        self.figures["exit code"] = self.dispatcher.returncode

    def has_dispatcher(self, run: FlowRun) -> bool | None:
        """Whether a run is that of the dispatcher in the terminal, and that is there."""
        if run.deployment_id:
            return None
        if self.dispatcher is None or self.dispatcher.poll() is not None:
            return False
        return bool(run.start_time and run.start_time.timestamp() > self.dispatched_at)


def plain(fleet: Fleet) -> None:
    """Nothing is lost."""
    fleet.dispatch()
    fleet.end()


def killed(fleet: Fleet) -> None:
    """A machine loses its power in the midst of a shard."""
    fleet.dispatch()
    lost = in_mid_shard(fleet.client, fleet.machines[1], fleet.output, do=stop)
    fleet.machines[1].kill_worker()
    fleet.until_crashed(lost)
    fleet.end()
    fleet.machines[1].start_worker()


def asleep(fleet: Fleet) -> None:
    """A machine falls asleep in the midst of a shard, and wakes up when another one has captioned
    some of it."""
    ben = fleet.machines[1]
    fleet.dispatch()
    lost = in_mid_shard(fleet.client, ben, fleet.output, do=stop)
    assert ben.worker
    pids = {ben.worker.pid, *descendants(ben.worker.pid)}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    made = lost.made(fleet.output)
    fleet.until_crashed(lost)
    wait_for(lambda: lost.made(fleet.output) > made, fleet.said, LONG)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    fleet.end()

    def said() -> list[str]:
        found = ben.said("worker").splitlines()
        return [line[line.index("Shard") :] for line in found if "any more" in line]

    wait_for(said, lambda: ben.said("worker")[-3000:])
    fleet.figures["it said"] = said()[0]


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
        machine.host.unmount(machine.shared)
    time.sleep(AWAY_SECONDS)
    for machine in fleet.machines:
        machine.host.mount(fleet.team.shared, machine.shared)
    fleet.end()


def cut_off(fleet: Fleet) -> None:
    """A machine loses its way to the server for five minutes, in the midst of a shard."""
    _cut_off(fleet, and_from_the_folder=False)


def cut_off_from_all(fleet: Fleet) -> None:
    """The same, and its way to the shared folder with it."""
    _cut_off(fleet, and_from_the_folder=True)


def _cut_off(fleet: Fleet, and_from_the_folder: bool) -> None:
    ben = fleet.machines[1]
    fleet.dispatch()
    lost = in_mid_shard(fleet.client, ben, fleet.output, do=lambda _: ben.host.unplug())
    since, made = time.monotonic(), lost.made(fleet.output)
    if and_from_the_folder:
        ben.host.unmount(ben.shared)
    with suppress(AssertionError):  # it may have ended just before
        fleet.until_crashed(lost)
    time.sleep(max(0.0, since + CUT_OFF_SECONDS - time.monotonic()))
    fleet.figures["captions of its shard, before and after"] = made, lost.made(fleet.output)
    ben.host.plug_in()
    if and_from_the_folder:
        ben.host.mount(fleet.team.shared, ben.shared)
    since = time.monotonic()

    def is_back() -> bool:
        workers = fleet.client.read_workers_for_work_pool("mlx")
        return any(w.name == ben.name and w.status == WorkerStatus.ONLINE for w in workers)

    wait_for(is_back, lambda: ben.said("worker")[-3000:])
    fleet.figures["seconds until its worker was online again"] = round(time.monotonic() - since)
    fleet.end()
    assert ben.worker
    worker = ben.worker.pid
    wait_for(lambda: not descendants(worker), lambda: ben.said("worker")[-3000:])
    fleet.figures["seconds until its last run had ended"] = round(time.monotonic() - since)


def dispatcher_cut_off(fleet: Fleet) -> None:
    """The dispatcher's machine loses its way to the server for five minutes."""
    fleet.dispatch()
    fleet.until(10)
    fleet.boss.host.unplug()
    time.sleep(CUT_OFF_SECONDS)
    fleet.figures["captions meanwhile"] = len(lines(fleet.output))
    fleet.boss.host.plug_in()
    since = time.monotonic()
    fleet.end()
    fleet.figures["seconds until it had ended"] = round(time.monotonic() - since)
    fleet.figures["it said"] = fleet.said()[-1000:]


def small(fleet: Fleet) -> None:
    """One machine has not enough memory for the model."""
    poor = fleet.machines[1]
    poor.kill_worker()
    poor.start_worker(CAPTION_MODEL=str(too_large(poor.home)))
    fleet.dispatch()
    fleet.end()
    states = [run.state for run in shards_of(fleet.client) if run.state]
    said = [str(each.message) for each in states if each.name == "Refused"]
    of_memory = [each for each in said if "Try a smaller model" in each]
    fleet.figures["refused"], fleet.figures["said"] = len(of_memory), of_memory[:1]
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

    wait_for(ended, lambda: fleet.boss.said("dispatcher"), LONG)
    state = fleet.client.read_flow_run(run.id).state
    fleet.figures["state"] = state.name if state else None
    worker.terminate()


SCENARIOS: dict[str, Callable[[Fleet], None]] = {
    each.__name__: each
    for each in (
        *(plain, killed, asleep, added, server, dispatcher, folder, cut_off, cut_off_from_all),
        dispatcher_cut_off,
        *(small, interrupted, deployed),
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
        made = stack.enter_context(team(place, hostnames=True))
        print(made.network.why_not or "Each machine has a network, mounts and a name of its own.")
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
    command = ("flows.caption_flow", *flags(), "--output-dir", str(alone))
    run = fleet.boss.start(*command, log="alone")
    assert run.wait() == 0, fleet.boss.said("alone")
    return without_times(alone)


def lose(fleet: Fleet, name: str, expected: dict[str, object]) -> bool:
    """Run one scenario, and print what came of it; whether that is what one machine leaves."""
    fleet.figures.clear()
    fleet.dispatcher = None
    began = time.monotonic()
    with Watching(fleet.machines, fleet.has_dispatcher) as watching:
        SCENARIOS[name](fleet)
        seconds = time.monotonic() - began
        watching.until_all_are_true()
    same = without_times(fleet.output)
    different = [file for file in {*expected, *same} if expected.get(file) != same.get(file)]
    twice = captioned_twice(fleet.output)
    print(f"{name}: {SCENARIOS[name].__doc__}")
    print(f"  {seconds:.0f} s; captioned twice: {len(twice)} {twice or ''}")
    print(f"  differs from one machine's in: {different or 'nothing'}")
    print(f"  seconds for which a run was shown that was gone: {watching.seconds or 'none'}")
    for what, figure in fleet.figures.items():
        print(f"  {what}: {figure}")
    if fleet.figures.get("exit code"):
        print(fleet.said()[-3000:])
    fleet.output.rename(fleet.output.with_name(f"out-{name}"))
    return not different


def start_over(fleet: Fleet, name: str) -> None:
    """Leave nothing of a scenario that did not end to the next one."""
    for machine in fleet.machines:
        machine.end()
        machine.host.plug_in()
        machine.host.unmount(machine.shared)
        machine.host.mount(fleet.team.shared, machine.shared)
    fleet.team.stop_server()
    fleet.team.start_server()
    for run in shards_of(fleet.client):
        if not (run.state and run.state.is_final()):
            fleet.client.delete_flow_run(run.id)
    if fleet.output.exists():
        fleet.output.rename(fleet.output.with_name(f"out-{name}"))
    for machine in fleet.machines:
        machine.start_worker()


def main() -> int:
    """Run the scenarios one after another; 1 when one did not end, or ended differently."""
    parser = argparse.ArgumentParser(description="Lose machines, and see what becomes of a fleet.")
    parser.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS], default=[])
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--machines", type=int, default=3)
    asked = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with fleets(asked.pictures, asked.shards, asked.machines) as fleet:
        began = time.monotonic()
        expected = on_one_machine(fleet)
        print(f"{asked.pictures} pictures, {asked.shards} shards, {asked.machines} machines")
        print(f"one machine alone: {time.monotonic() - began:.0f} s")
        well = True
        for name in asked.scenario or SCENARIOS:
            try:
                well &= lose(fleet, name, expected)
            except AssertionError as error:
                print(f"{name}: it has not ended: {str(error)[-3000:]}")
                start_over(fleet, name)
                well = False
    return int(not well)


if __name__ == "__main__":
    raise SystemExit(main())
