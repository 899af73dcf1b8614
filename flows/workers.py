"""The workers that shards are given to: which are online, and which have just refused one.

Knows nothing of shards.
"""

import time
from collections import defaultdict
from dataclasses import dataclass

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound

from captioner.errors import InputError

SHARD = "caption-images/shard"  # the deployment, as in prefect.yaml
AGAIN_SECONDS = 30.0  # until a worker that refused is asked again; doubles
AGAIN_SECONDS_AT_MOST = 300.0
REFUSALS = 3  # of every worker, with no caption since: then none can


def online_workers() -> set[str]:
    """The names of the workers that can take a shard.

    Raises:
        InputError: there are none, or there is no deployment.
    """
    with get_client(sync_client=True) as client:
        pool = pool_of_shards(client)
        if not (workers := _online(client, pool)):
            raise InputError(
                f"No worker of the work pool {pool} is online: start one on each machine with "
                f"`prefect worker start --pool {pool} --limit 1` (docs/several-macs.md)."
            )
    return workers


def pool_of_shards(client: SyncPrefectClient) -> str:
    """The name of the work pool whose workers caption shards.

    Raises:
        InputError: there is no deployment of them.
    """
    try:
        return client.read_deployment_by_name(SHARD).work_pool_name or ""
    except ObjectNotFound as error:
        raise InputError(
            f"Prefect's server knows no deployment {SHARD}: make it with "
            "`python -m flows.hosting.deploying` (docs/several-macs.md)."
        ) from error


@dataclass
class _Refusals:
    """How often one worker refused, since there was a caption."""

    count: int = 0
    again_at: float = 0.0
    last: str = ""  # what it said


class Workers:
    """The workers of the pool, as they were when last looked at."""

    def __init__(self) -> None:
        self.pool = ""
        self.online: set[str] = set()
        self._refused: dict[str, _Refusals] = defaultdict(_Refusals)

    def look(self, client: SyncPrefectClient) -> None:
        """See which are online."""
        self.pool = pool_of_shards(client)
        self.online = _online(client, self.pool)

    def able(self) -> set[str]:
        """Those that are online and have not just refused a shard."""
        now = time.monotonic()
        return {name for name in self.online if self._refused[name].again_at <= now}

    def refuse(self, name: str, said: str) -> None:
        """Note that one refused: it is left alone for a while, longer each time."""
        refusals = self._refused[name]
        wait = min(AGAIN_SECONDS * 2**refusals.count, AGAIN_SECONDS_AT_MOST)
        refusals.count += 1
        refusals.again_at, refusals.last = time.monotonic() + wait, said

    def note_progress(self) -> None:
        """Note that there was a caption: not all of them are unable."""
        for refusals in self._refused.values():
            refusals.count = min(refusals.count, REFUSALS - 1)

    def why_none_can(self) -> str:
        """What the last of them said, when each has refused often enough; or else nothing."""
        tired = [self._refused[name] for name in self.online]
        if tired and all(refusals.count >= REFUSALS for refusals in tired):
            return tired[0].last
        return ""


def _online(client: SyncPrefectClient, pool: str) -> set[str]:
    workers = client.read_workers_for_work_pool(pool)
    return {worker.name for worker in workers if worker.status == WorkerStatus.ONLINE}
