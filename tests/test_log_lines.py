"""What is matched of Prefect's log lines is what Prefect says: a contract for each."""

import logging
from collections.abc import Iterator

import prefect
import pytest
from prefect import flow, task
from prefect.client.schemas.objects import State, StateType
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.hosting import log_lines
from flows.hosting.recorded import send_what_is_queued
from flows.hosting.server import HOST, free_port


class Records(logging.Handler):
    """Keeps what the loggers of Prefect's runs say."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    def beginning(self, text: str) -> list[logging.LogRecord]:
        return [record for record in self.all if record.getMessage().startswith(text)]


@pytest.fixture
def records(prefect_api: str) -> Iterator[Records]:
    handler = Records()
    loggers = [logging.getLogger(name) for name in log_lines.RUN_LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


def test_the_end_of_every_run_is_one_line_with_its_state(records: Records) -> None:
    @task
    def whole() -> int:
        return 1

    @task
    def skipped() -> "State[int]":
        return State(type=StateType.CANCELLED, name="Skipped", message="why", data=None)

    @task
    def flagged() -> "State[int]":
        return State(type=StateType.COMPLETED, name="Flagged", message="why", data=None)

    @task
    def stopped() -> "State[int]":
        return State(type=StateType.CANCELLED, name="Cancelled", message="why", data=None)

    @flow
    def all_of_them() -> str:
        whole()
        for other in (skipped, flagged, stopped):
            other(return_state=True)
        return "done"

    with log_lines.FinishedTaskRuns() as finished:
        all_of_them()
    ends = records.beginning(log_lines.FINISHED)
    names = [(record.name, record.levelno, record.getMessage()) for record in ends]
    tasks, flows = log_lines.RUN_LOGGERS[1], log_lines.RUN_LOGGERS[0]
    skipping, flagging, stopping = log_lines.TOLD
    assert names == [
        (tasks, logging.INFO, log_lines.COMPLETED),
        (tasks, logging.ERROR, f"{skipping}'why', type=CANCELLED)"),
        (tasks, logging.INFO, f"{flagging}'why', type=COMPLETED)"),
        (tasks, logging.ERROR, f"{stopping}'why')"),
        (flows, logging.INFO, log_lines.COMPLETED),
    ]
    assert len(finished.ids) == 4
    assert not any(log_lines.say_it_plainly(record) for record in ends)
    ends[-1].msg = ends[-1].msg.replace("Completed", "Cancelled")
    assert log_lines.say_it_plainly(ends[-1])  # of a whole run it is news


def test_an_interrupt_is_told_in_words_that_are_matched(records: Records) -> None:
    @task
    def interrupted() -> None:
        raise KeyboardInterrupt

    @flow
    def whole() -> str:
        try:
            interrupted()
        except KeyboardInterrupt:
            return "interrupted"
        return "not interrupted"

    assert whole() == "interrupted"
    errors = [record.getMessage() for record in records.all if record.levelno == logging.ERROR]
    crash, end = errors
    assert log_lines.INTERRUPTED in crash and end.startswith(log_lines.FINISHED)


def test_a_server_that_does_not_answer_is_complained_of_by_that_logger(
    prefect_api: str, caplog: pytest.LogCaptureFixture
) -> None:
    send_what_is_queued()
    with temporary_settings({PREFECT_API_URL: f"http://{HOST}:{free_port()}/api"}):
        emit_event("a.test", {"prefect.resource.id": "a.test"})
        EventsWorker.drain_all(timeout=20)
    complaints = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert log_lines.CONNECTION_LOGGER in {record.name for record in complaints}
    assert set(log_lines.QUEUE_LOGGERS) <= set(logging.root.manager.loggerDict)


def test_a_server_that_is_slow_to_take_events_is_not_lost() -> None:
    for name in log_lines.QUEUE_LOGGERS:
        waiting = {
            "name": name,
            "levelno": logging.WARNING,
            "pathname": prefect.__file__,
            "msg": "Still processing items: 113 items remaining...",
        }
        assert not log_lines.OursOrSerious().filter(logging.makeLogRecord(waiting))
