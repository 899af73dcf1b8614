"""How long a server shows runs as running whose processes are gone: looked at while a fleet is at
work.

    with Watching(machines, is_alive) as watching:
        ...
        watching.until_all_are_true()

A run of a deployment is there when a process of one of the machines has its id and is not stopped;
of other runs `is_alive` knows. Knows nothing of shards.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.hosting.ui import descendants
from tests.fleets import Machine, wait_for

LOOK_SECONDS = 2.0
SHOWN = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
NAME = b"PREFECT__FLOW_RUN_ID="  # in the environment of a run's process


class Watching:
    """Looks every two seconds, in a thread of its own, until the block ends."""

    def __init__(
        self, machines: Sequence[Machine], is_alive: Callable[[FlowRun], bool | None]
    ) -> None:
        """`is_alive` says None of a run that it does not know."""
        self._machines, self._is_alive = machines, is_alive
        self._since: dict[str, float] = {}  # by name of the run
        self._looked = 0
        self._ended = threading.Event()
        self.seconds: dict[str, int] = {}  # for which a run was shown in vain, when it was for long
        context = contextvars.copy_context()  # which server
        self._thread = threading.Thread(target=context.run, args=(self._look_on,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def until_all_are_true(self) -> None:
        """Wait until no run is shown whose process is gone."""
        looked = self._looked
        wait_for(lambda: self._looked > looked + 1 and not self._since, lambda: self._since)

    def _look_on(self) -> None:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True) as client,
        ):
            while not self._ended.wait(LOOK_SECONDS):
                with suppress(HTTPError, PrefectHTTPStatusError):  # the server is gone
                    self._look(client)
                    self._looked += 1

    def _look(self, client: SyncPrefectClient) -> None:
        there = _run_ids(self._machines)  # before the server is asked: a process may begin now
        chosen = FlowRunFilter(state=FlowRunFilterState(type=SHOWN))
        shown = client.read_flow_runs(flow_run_filter=chosen)
        there |= _run_ids(self._machines)
        now = time.monotonic()
        in_vain = {run.name for run in shown if not self._is_there(run, there)}
        for name in in_vain:
            self._since.setdefault(name, now)
        for name in self._since.keys() - in_vain:
            if (seconds := round(now - self._since.pop(name))) > 3 * LOOK_SECONDS:
                self.seconds[name] = max(seconds, self.seconds.get(name, 0))

    def _is_there(self, run: FlowRun, there: set[str]) -> bool:
        alive = self._is_alive(run)
        return str(run.id) in there if alive is None else alive


def _run_ids(machines: Sequence[Machine]) -> set[str]:
    """The runs whose processes are there."""
    roots = [p.pid for machine in machines for p in machine.started if p.poll() is None]
    pids = {child for root in roots for child in descendants(root)}
    return {found for pid in pids if (found := _run_id(pid))}


def _run_id(pid: int) -> str:
    with suppress(OSError):  # it has ended
        process = Path("/proc") / str(pid)
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        for variable in (process / "environ").read_bytes().split(b"\0"):
            if variable.startswith(NAME) and state not in "TZ":
                return variable.removeprefix(NAME).decode()
    return ""
