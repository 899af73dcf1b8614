"""Waits until the Prefect server knows how every task run ended.

Task runs reach the server as events, and it records those some time after they happened.
"""

import logging
import time
from typing import Self
from uuid import UUID

FINISHED = "Finished in state "  # how Prefect's engines begin the line about a run's end
TIMEOUT_SECONDS = 30.0
FINAL = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]


class FinishedTaskRuns(logging.Filter):
    """Notes the id of each task run that logs anything while the block runs: at least its end."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: every record is logged as it was."""
        if task_run_id := getattr(record, "task_run_id", None):
            self.ids.add(str(task_run_id))
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
            if client.request("POST", "/task_runs/count", json=query).json() >= task_runs:
                return True
            time.sleep(0.1)
    return False
