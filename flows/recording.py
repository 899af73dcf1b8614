"""Waits until the Prefect server knows how every task run ended.

Task runs reach the server as events, and it records those some time after they happened.
"""

import logging
import time
from typing import Self
from uuid import UUID

FINISHED = "log_finished_message"  # the function of Prefect's engines that logs a run's end
TIMEOUT_SECONDS = 30.0
FINAL = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]


class FinishedTaskRuns(logging.Filter):
    """Notes the id of each task run that Prefect logs as finished, while the block runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: every record is logged as it was."""
        if record.funcName == FINISHED:
            self.ids.add(str(getattr(record, "task_run_id", "")))
        return True

    def __enter__(self) -> Self:
        logging.getLogger("prefect.task_runs").addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("prefect.task_runs").removeFilter(self)


def send_what_is_queued() -> None:
    """Send the events and log lines that wait in this process; afterwards it may do without a
    server, without which they would be sent again and again."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    EventsWorker.drain_all(timeout=TIMEOUT_SECONDS)
    APILogHandler().flush()


def wait_until_recorded(flow_run_id: UUID, task_runs: int) -> bool:
    """Whether, in half a minute at most, the server has recorded the end of `task_runs` task runs
    of the flow run, and their logs have been sent."""
    from prefect.client.orchestration import get_client

    send_what_is_queued()
    query = {
        "flow_runs": {"id": {"any_": [str(flow_run_id)]}},
        "task_runs": {"state": {"type": {"any_": FINAL}}},
    }
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            if client._client.post("/task_runs/count", json=query).json() >= task_runs:
                return True
            time.sleep(0.1)
    return False
