"""The shards of a folder through Prefect's work pool: each is a run of one deployment, is waited
for, and is given out again when it was lost.

Whoever is killed in here and started again finds the shards' runs by the tag of their round. What a
shard has done is read from the folder, not from a state. Knows nothing of how captions are made.
"""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from httpx import TransportError
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelling, Crashed

from captioner.errors import InputError
from captioner.output.gathering import Gathering
from captioner.pages.table import run_name
from captioner.run import Run
from captioner.settings import Settings
from captioner.text import printable
from flows.endings import INTERRUPTS, REFUSED, interrupts_deferred
from flows.workers import SHARD, Workers

SHARDS_A_WORKER = 4
LOOK_SECONDS = 2.0
SEEN_SECONDS = 60.0  # until what a machine wrote is seen on another, at the latest
IN_VAIN = 5  # runs of one shard without a caption, and it is given up
PAGE = 200  # of Prefect's lists


@dataclass
class _Shard:
    """One shard, and the runs of it."""

    number: int
    attempts: int = 0
    run: UUID | None = None  # that was given out last, until it has ended
    left: int = 0  # pictures, when that was
    in_vain: int = 0  # runs without a caption, one after another
    ended_at: float | None = None  # when its run was seen to have ended, with pictures left
    given_up: bool = False


def caption_shards(run: Run, gathering: Gathering, given: Settings) -> None:
    """Have all shards captioned by whoever can, as they were `given`; returns when there is nothing
    left to wait for. An interrupt cancels their runs.

    Raises:
        InputError: no worker can caption any of them.
    """
    dispatch = _Dispatch(run, gathering, given)
    run.waiting_for = "Waiting for the first caption of a shard"
    try:
        # a server that is away is asked again at the next look
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}),
            get_client(sync_client=True) as client,
        ):
            dispatch.find(client)
            while dispatch.look(client):
                time.sleep(LOOK_SECONDS)
    except INTERRUPTS:
        dispatch.cancel()
        raise


class _Dispatch:
    """The shards that are to be done."""

    def __init__(self, run: Run, gathering: Gathering, given: Settings) -> None:
        assert gathering.round is not None
        self._run, self._gathering, self._round = run, gathering, gathering.round
        self._given = given
        self._shards = {number: _Shard(number) for number in sorted(gathering.left())}
        self._workers = Workers()
        self._captioned = 0  # at the last look
        self._said: set[str] = set()
        self._tag = f"fleet: {self._round.id[:8]}"
        self._logger = get_run_logger()

    def find(self, client: SyncPrefectClient) -> None:
        """Take up the runs of shards that were given out before this process began."""
        mine = FlowRunFilter(tags=FlowRunFilterTags(all_=[self._tag]))
        left, offset = self._gathering.left(), 0
        while found := client.read_flow_runs(flow_run_filter=mine, limit=PAGE, offset=offset):
            offset += len(found)
            for each in found:
                number, attempt = _of_key(each.idempotency_key)
                shard = self._shards.get(number)
                if shard and attempt > shard.attempts:
                    ended = each.state is not None and each.state.is_final()
                    shard.attempts, shard.run = attempt, None if ended else each.id
                    shard.left = left[number]

    def look(self, client: SyncPrefectClient) -> bool:
        """See how far the shards are, and give out what is to be; whether to look again."""
        left = self._gathering.left()
        try:
            with interrupts_deferred():
                known = self._known(client)
                self._note()  # what a run noted before it was seen to have ended
                left = self._gathering.left()
                under_way = self._ended_or_under_way(client, known, left)
                if waiting := [shard for shard in self._waiting() if left[shard.number]]:
                    self._give_out(client, waiting, under_way, left)
            self._said.discard("server")
        except PrefectHTTPStatusError as error:
            if error.response.status_code < 500:
                raise
            self._say_once("server", "Prefect's server answers with an error; waiting for it.")
        except TransportError:
            self._note()
            self._say_once("server", "Prefect's server does not answer; shards go on without it.")
        return any(not s.given_up and (left[s.number] or s.run) for s in self._shards.values())

    def cancel(self) -> None:
        """Have the runs of shards cancelled that have not ended."""
        with suppress(Exception), get_client(sync_client=True) as client:
            for shard in self._shards.values():
                if shard.run:
                    client.set_flow_run_state(shard.run, Cancelling(message="The fleet has ended"))

    def _note(self) -> None:
        try:
            self._gathering.note(self._run)
            self._said.discard("folder")
        except OSError as error:
            self._say_once(
                "folder", f"The output directory cannot be read ({error.strerror}); waiting for it."
            )
        if len(self._run.captioned) > self._captioned:
            self._captioned = len(self._run.captioned)
            self._workers.note_progress()

    def _waiting(self) -> list[_Shard]:
        return [s for s in self._shards.values() if s.run is None and not s.given_up]

    def _known(self, client: SyncPrefectClient) -> dict[UUID, FlowRun]:
        """The runs that were given out last, as the server knows them."""
        ids = [shard.run for shard in self._shards.values() if shard.run]
        found: list[FlowRun] = []
        for start in range(0, len(ids), PAGE):
            these = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + PAGE]))
            found += client.read_flow_runs(flow_run_filter=these, limit=PAGE)
        return {run.id: run for run in found}

    def _ended_or_under_way(
        self, client: SyncPrefectClient, known: dict[UUID, FlowRun], left: Counter[int]
    ) -> int:
        """Take note of the runs that have ended; how many are under way or waited for."""
        under_way = 0
        for shard in [shard for shard in self._shards.values() if shard.run]:
            run = known.get(shard.run) if shard.run else None
            state = run.state if run else None
            if run and not (state and state.is_final()):
                under_way += 1
            elif not (left[shard.number] and state and self._may_show(shard, state)):
                self._end(shard, run, state, left[shard.number])
                if run and state and state.is_crashed():
                    _crash_task_runs(client, run.id)
        return under_way

    def _may_show(self, shard: _Shard, state: "State[Any]") -> bool:
        """Whether what the shard has done may still be on its way to this machine."""
        if state.name == REFUSED or state.is_crashed() or state.is_cancelled():
            return False
        shard.ended_at = shard.ended_at or time.monotonic()
        return time.monotonic() < shard.ended_at + SEEN_SECONDS

    def _end(
        self, shard: _Shard, flow_run: FlowRun | None, state: "State[Any] | None", left: int
    ) -> None:
        """The last run of a shard has ended, or was removed."""
        progress = left < shard.left
        shard.run = shard.ended_at = None
        if not left:
            return
        who = str((flow_run.labels if flow_run else {}).get("prefect.worker.name", "nobody"))
        said = (state.message if state else None) or "it was removed"
        name = state.name if state else "Gone"
        if state and state.is_completed():
            said = f"its captions are not here: see that CAPTION_OUTPUT_DIR is this folder on {who}"
        self._logger.warning(
            "Shard %d of %d is given out again (%s on %s): %s",
            *(shard.number, self._round.shards, name, printable(who), printable(said)),
        )
        if state and not (progress or state.is_crashed() or state.is_cancelled()):
            self._workers.refuse(who, said)
        if name == REFUSED:
            return
        shard.in_vain = 0 if progress else shard.in_vain + 1
        if shard.in_vain >= IN_VAIN:
            shard.given_up = True
            self._logger.error(
                "Shard %d of %d is given up: %d runs of it ended without a caption",
                *(shard.number, self._round.shards, shard.in_vain),
            )

    def _give_out(
        self,
        client: SyncPrefectClient,
        waiting: list[_Shard],
        under_way: int,
        left: Counter[int],
    ) -> None:
        """Give out all shards for the first time, and again as many as there are workers free that
        have not just refused one: whoever is free is asked first."""
        again = [shard for shard in waiting if shard.attempts]
        for shard in waiting:
            if not shard.attempts:
                self._submit(shard, left[shard.number])
        if not again or len(again) < len(waiting):
            return
        self._workers.look(client)
        able = self._workers.able()
        for shard in again[: max(0, len(able) - under_way)]:
            self._submit(shard, left[shard.number])
        if not self._workers.online:
            pool = self._workers.pool
            self._say_once("workers", f"No worker of the work pool {pool} is online; waiting.")
        elif (
            not (under_way or able)
            and (said := self._workers.why_none_can())
            and self._gathering.is_there()  # or else it is the folder, and may come back
        ):
            raise InputError(f"No worker could caption a shard. The last said: {said}")

    def _submit(self, shard: _Shard, left: int) -> None:
        attempt = shard.attempts + 1
        name = f"{run_name(self._run.settings.input_dir, None)}: shard {shard.number}"
        flow_run = run_deployment(
            SHARD,
            parameters=self._parameters(shard.number),
            flow_run_name=f"{name} of {self._round.shards}" + f", run {attempt}" * (attempt > 1),
            timeout=0,
            tags=[self._tag],
            idempotency_key=f"{self._round.id}-{shard.number}-{attempt}",
        )
        assert isinstance(flow_run, FlowRun)
        shard.attempts, shard.run, shard.left = attempt, flow_run.id, left

    def _parameters(self, number: int) -> dict[str, Any]:
        """What a shard is asked: the same, and its places unless its worker has others. What is
        made of the captions is the merge's affair."""
        asked, here = self._given, Path.cwd()
        shard = asked.model_copy(
            update={
                "shard": f"{number}/{self._round.shards}",
                "input_dir": here / asked.input_dir,
                "output_dir": here / asked.output_dir,
            }
        )
        given = {
            name: group.model_dump(mode="json", exclude_unset=True)
            for name, group in shard.grouped().items()
        }
        return given | {"results": {"gallery": shard.gallery}}  # which thumbnails are made for

    def _say_once(self, what: str, sentence: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._logger.warning("%s", sentence)


def _crash_task_runs(client: SyncPrefectClient, run: UUID) -> None:
    """Note of what a run had under way that it ended with it: nobody else does."""
    of_this = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    states = TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING]))
    for task_run in client.read_task_runs(
        flow_run_filter=of_this, task_run_filter=TaskRunFilter(state=states)
    ):
        gone: State[Any] = Crashed(message="The run that it was a part of has crashed.")
        client.set_task_run_state(task_run.id, gone, force=True)


def _of_key(key: str | None) -> tuple[int, int]:
    """The number of the shard and of the attempt."""
    parts = (key or "").split("-")
    if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
        return 0, 0
    return int(parts[1]), int(parts[2])
