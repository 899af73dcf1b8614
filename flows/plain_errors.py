"""Inside a run, our own errors are logged as their sentence, without a traceback.

Prefect logs a task's exception with its traceback, to the terminal and to the UI, and in the
process of a deployment's run whatever kept the flow from completing. For what a sentence can say,
the traceback is noise; for all else it stays. It also logs every state that is not Completed as an
error, which a skipped picture is not, and every one that is, which its state shows: three lines a
picture that would hide the rest.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun, FailedRun

from captioner.errors import CaptionerError
from flows.recording import FINISHED

COMPLETED = f"{FINISHED}Completed()"
SKIPPED = f"{FINISHED}Skipped("
RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
SENTENCES = (CaptionerError, CancelledRun, FailedRun)


def say_it_plainly(record: logging.LogRecord) -> bool:
    """A logging filter that reduces a record about one of our errors to its sentence, one about a
    skipped picture to what it is, and one about a state that is just Completed to nothing."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, SENTENCES):
        record.msg, record.args, record.exc_info = str(error), (), None
    if record.levelno == logging.ERROR and record.getMessage().startswith(SKIPPED):
        record.levelno, record.levelname = logging.INFO, "INFO"
    return record.getMessage() != COMPLETED


@contextmanager
def plain_errors() -> Iterator[None]:
    """Filter the loggers of Prefect's runs while the block runs.

    For the run of a deployment, which has a process to itself, also afterwards: its engine logs
    the end when the flow has returned.
    """
    loggers = [logging.getLogger(name) for name in RUN_LOGGERS]
    for logger in loggers:
        logger.addFilter(say_it_plainly)
    try:
        yield
    finally:
        # not prefect.runtime's deployment.id, which asks a server that may be gone
        context = FlowRunContext.get()
        if not (context and context.flow_run and context.flow_run.deployment_id):
            for logger in loggers:
                logger.removeFilter(say_it_plainly)
