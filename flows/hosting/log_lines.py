"""How a run reads: our own lines as they are, and of Prefect's what means something to a user.

Every name and message of Prefect that is matched or reworded stands here, and nowhere else;
`tests/test_log_lines.py` notices when Prefect changes one. Knows nothing of what a run does.
"""

import copy
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from captioner.errors import CaptionerError, CaptionError
from captioner.settings import TITLES
from captioner.text import call_settings_by, in_the_reader_s_words

LOGGING_CONFIG = Path(__file__).with_name("logging.yml")
DEBUG_VARIABLE = "CAPTION_DEBUG"

RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
FINISHED = "Finished in state "  # how the line about a run's end begins
COMPLETED = f"{FINISHED}Completed()"
# of a task run, by a line of our own
TOLD = (f"{FINISHED}Skipped(", f"{FINISHED}Flagged(", f"{FINISHED}Cancelled(")
INTERRUPTED = "aborted by"  # said in our own words
CAPTION = "caption"  # marks a record with a caption, which is for the UI
CONNECTION_LOGGER = "prefect.events.clients"  # complains, for every event, of a lost server
PRIVATE_LOGGERS = "prefect._"  # what Prefect says of its insides means nothing to a user
MLX_VLM = "/mlx_vlm/"  # what it logs as an error it raises as well
QUEUE_LOGGERS = ("EventsWorker", "APILogWorker")  # count what they have still to send at the end


def debugging() -> bool:
    """Whether --debug was given, here or in the environment."""
    return os.environ.get(DEBUG_VARIABLE, "").lower() in ("1", "true", "yes", "on")


def say_it_plainly(record: logging.LogRecord) -> bool:
    """A logging filter that reduces a record about one of our errors to its sentence, and one about
    a state that is just Completed, or that our own line has told of, to nothing.

    Prefect logs a task's exception with its traceback, to the terminal and to the UI, and in the
    process of a deployment's run whatever kept the flow from completing. It also logs every state
    that is not Completed as an error, which a picture that was skipped or not reached is not.
    """
    from prefect.exceptions import CancelledRun, FailedRun

    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, (CaptionerError, CancelledRun, FailedRun)):
        record.msg, record.args, record.exc_info = str(error), (), None
        record.ends_the_run = not isinstance(error, CaptionError)
    message = record.getMessage()
    if not getattr(record, CAPTION, False) and (said := in_the_reader_s_words(message)) != message:
        record.msg, record.args = said, ()
    told = record.name == RUN_LOGGERS[1] and message.startswith(TOLD)
    return message != COMPLETED and not told


@contextmanager
def plain_errors() -> Iterator[None]:
    """Filter the loggers of Prefect's runs while the block runs.

    For the run of a deployment, which has a process to itself, also afterwards: its engine logs
    the end when the flow has returned. Its reader knows the settings by their titles in the form.
    """
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    # not prefect.runtime's deployment.id, which asks a server that may be gone
    deployed = bool(context and context.flow_run and context.flow_run.deployment_id)
    if deployed:
        call_settings_by(TITLES)
    loggers = [logging.getLogger(name) for name in RUN_LOGGERS]
    for logger in loggers:
        logger.addFilter(say_it_plainly)
    try:
        yield
    finally:
        if not deployed:
            for logger in loggers:
                logger.removeFilter(say_it_plainly)


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


class TerminalFormatter(logging.Formatter):
    """`21:55:26 - INFO - message`; the bare message for records marked as plain."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s - %(levelname)s - %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record's line; tracebacks are for --debug."""
        if getattr(record, "plain", False):
            return record.getMessage()
        if record.exc_info and not debugging():
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        return super().format(record)


class OursOrSerious(logging.Filter):
    """Leaves out what Prefect says of its own doings below a warning, unless with --debug, and
    reduces all complaints of a server that takes no events to one sentence.

    What ends a run may end several of its task runs, each of which says so: the end says it once.
    """

    def __init__(self) -> None:
        super().__init__()
        spec = importlib.util.find_spec("prefect")
        self._prefect = str(Path(spec.origin).parent) if spec and spec.origin else ""
        self._said = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        if getattr(record, CAPTION, False):
            return False
        if debugging():
            return True
        if not record.pathname.startswith(self._prefect):
            return record.levelno < logging.ERROR or MLX_VLM not in record.pathname
        if record.levelno < logging.WARNING or record.name.startswith(PRIVATE_LOGGERS):
            return False
        if getattr(record, "ends_the_run", False) or self._is_about_server(record):
            return False
        if record.name == CONNECTION_LOGGER:
            return self._say_once(record)
        message = record.getMessage()
        said = message.startswith(FINISHED) or INTERRUPTED in message  # in our own words
        return not said and record.name not in QUEUE_LOGGERS

    def _is_about_server(self, record: logging.LogRecord) -> bool:
        from flows.hosting.lost_server import is_of_server

        return is_of_server(record.exc_info[1] if record.exc_info else None)  # the end says it

    def _say_once(self, record: logging.LogRecord) -> bool:
        from flows.hosting.lost_server import server_name

        if self._said:
            return False
        self._said = True
        record.msg = (
            f"{server_name()} does not hear of every task run, so its pages may lack some. "
            "Captions are made and saved all the same."
        )
        record.args = ()
        return True
