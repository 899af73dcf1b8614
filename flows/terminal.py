"""What `python flows/caption_flow.py` is in a terminal: its flags, its log lines, its exit code.

Imports Prefect only in what runs after the flags were understood.
"""

import copy
import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from captioner.command_line import CommandLine, parse_command_line
from flows.recording import FINISHED, FinishedTaskRuns, wait_until_recorded

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import State

LOGGING_CONFIG = Path(__file__).with_name("logging.yml")
DEBUG_VARIABLE = "CAPTION_DEBUG"

DONE, SOME_FAILED, CANNOT_START, INTERRUPTED = 0, 1, 2, 130


def begin() -> CommandLine:
    """Read the flags, and choose how Prefect logs and that it sends no usage data; it reads that
    when it is first imported."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(INTERRUPTED))  # until there is a run to end
    command = parse_command_line(CommandLine)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if command.debug:
        os.environ[DEBUG_VARIABLE] = "1"
    os.environ.setdefault("PREFECT_LOGGING_CONFIG_PATH", str(LOGGING_CONFIG))
    os.environ.setdefault("DO_NOT_TRACK", "1")  # nothing of a run leaves the machine
    return command


def run(flow: "Flow[Any, Any]", command: CommandLine) -> int:
    """Run the flow with a Prefect server, temporary if need be; returns the exit code."""
    from flows.temporary_server import ServerError, prefect_server

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with prefect_server():
            return _run(flow, command)
    except ServerError as error:
        print(error, file=sys.stderr)
        return CANNOT_START
    except KeyboardInterrupt:
        print("Interrupted. The captions saved so far are safe.", file=sys.stderr)
        return INTERRUPTED


def _run(flow: "Flow[Any, Any]", command: CommandLine) -> int:
    with FinishedTaskRuns() as finished:
        state = cast("State[Any]", flow(**command.settings().grouped(), return_state=True))
    if flow_run_id := state.state_details.flow_run_id:
        wait_until_recorded(flow_run_id, len(finished.ids))
    if state.is_completed():
        return DONE
    if state.is_cancelled():
        print(state.message, file=sys.stderr)
        return INTERRUPTED
    return _explain(state)


def _explain(state: "State[Any]") -> int:
    """Say what is not in the log yet; the exit code for the state of a run that failed."""
    from captioner.errors import CaptionerError, DeviceError, OutputError, first_line

    error = state.result(raise_on_failure=False)
    if error is None:  # the flow's own verdict: some captions failed
        print(f"{state.message}; summary.json says why.", file=sys.stderr)
    elif not isinstance(error, CaptionerError):
        kind = type(error).__name__
        print(
            f"Unexpected {kind}: {first_line(error)}. --debug shows where; please report it.",
            file=sys.stderr,
        )
    elif not isinstance(error, (OutputError, DeviceError)):
        return CANNOT_START
    return SOME_FAILED


class TerminalFormatter(logging.Formatter):
    """`21:55:26 - INFO - message`; the bare message for records marked as plain."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s - %(levelname)s - %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record's line; tracebacks are for --debug."""
        if getattr(record, "plain", False):
            return record.getMessage()
        if record.exc_info and not _debugging():
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        return super().format(record)


class OursOrSerious(logging.Filter):
    """Leaves out what Prefect says of its own doings below a warning, unless with --debug."""

    def __init__(self) -> None:
        super().__init__()
        spec = importlib.util.find_spec("prefect")
        self._prefect = str(Path(spec.origin).parent) if spec and spec.origin else ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        if _debugging() or not record.pathname.startswith(self._prefect):
            return True
        interrupted = "aborted by" in record.getMessage()  # said in our own words
        return record.levelno >= logging.WARNING and record.funcName != FINISHED and not interrupted


def _debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "").lower() in ("1", "true", "yes", "on")
