"""Removes runs of this flow from Prefect's database, through its API, once they are old.

Prefect's own clean-up (`PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED`) works by the hour, in a server
that stays, and for all flows; a server for the time of one run ends before. Caption files and
everything else in an output folder stay as they are.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from flows.hosting.deploying import FLOW

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter

LONGEST_RUN = timedelta(days=30)  # what began before that and has no end was killed
AT_A_TIME = 50
LOGS_SECONDS = 30.0  # for the server to remove the logs, which it does afterwards


def remove_old_runs(older_than: timedelta) -> int:
    """Remove the runs that ended longer ago than that, with their task runs, logs and artifacts;
    returns how many.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterEndTime,
        FlowRunFilterStartTime,
    )

    before = datetime.now(UTC) - older_than
    ended = FlowRunFilter(end_time=FlowRunFilterEndTime(before_=before))
    killed = FlowRunFilter(
        end_time=FlowRunFilterEndTime(is_null_=True),
        start_time=FlowRunFilterStartTime(before_=before - LONGEST_RUN),
    )
    removed = 0
    with get_client(sync_client=True) as client:
        for runs in (ended, killed):
            while ids := _find(client, runs):
                for run in ids:
                    _remove(client, run)
                _wait_for_logs(client, ids)
                removed += len(ids)
    return removed


def _find(client: "SyncPrefectClient", runs: "FlowRunFilter") -> list[UUID]:
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    flow = FlowFilter(name=FlowFilterName(any_=[FLOW]))
    found = client.read_flow_runs(flow_filter=flow, flow_run_filter=runs, limit=AT_A_TIME)
    return [run.id for run in found]


def _remove(client: "SyncPrefectClient", run: UUID) -> None:
    """The artifacts first: no run leads to them any more once it is gone."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    of_this = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    while artifacts := client.read_artifacts(artifact_filter=of_this):
        for artifact in artifacts:
            client.delete_artifact(artifact.id)
    client.delete_flow_run(run)


def _wait_for_logs(client: "SyncPrefectClient", runs: list[UUID]) -> None:
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    of_these = LogFilter(flow_run_id=LogFilterFlowRunId(any_=runs))
    deadline = time.monotonic() + LOGS_SECONDS
    while client.read_logs(of_these, limit=1) and time.monotonic() < deadline:
        time.sleep(0.1)
